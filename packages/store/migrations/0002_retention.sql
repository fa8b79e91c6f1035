-- Owns: what retention needs to know before it drops a day, and to trim tables that are not cut by day.

-- Days past the retention that were found with unfinished rows. They go dead a while after the alert, whatever was
-- restarted meanwhile; of several copies the one that inserts the row gives it.
CREATE TABLE overdue_days (
  day date PRIMARY KEY,
  alerted_at timestamptz NOT NULL DEFAULT clock()
);

-- Unfinished replays by the event they replay, which may be of any earlier day: its content is still to be sent. No
-- column of it changes but due_at, in other indexes already.
CREATE INDEX deliveries_replaying ON deliveries (replay_of) WHERE replay_of IS NOT NULL AND due_at IS NOT NULL;

CREATE INDEX replays_at ON replays (at);
