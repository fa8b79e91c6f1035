-- Owns: every table of the truth. Times come from clock() alone, which a test replaces in its own schema.
-- Ids are text COLLATE "C": they sort by time, and events, deliveries and attempts are cut into days by them.

CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';

-- Configuration: one version for all of it; every change takes this row first, so changes are serial.
CREATE TABLE config (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version bigint NOT NULL
);
INSERT INTO config (version) VALUES (1);

CREATE TABLE sources (
  id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  version int NOT NULL DEFAULT 1,
  spec jsonb NOT NULL,
  secrets text,
  managed_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  updated_at timestamptz NOT NULL DEFAULT clock(),
  deleted_at timestamptz
);
CREATE UNIQUE INDEX sources_name ON sources (name) WHERE deleted_at IS NULL;

CREATE TABLE destinations (
  id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  version int NOT NULL DEFAULT 1,
  spec jsonb NOT NULL,
  secrets text,
  managed_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  updated_at timestamptz NOT NULL DEFAULT clock(),
  deleted_at timestamptz,
  -- Of the spec, where the protocol's statements read it.
  tenant text COLLATE "C" NOT NULL DEFAULT '',
  attempt_timeout_ms int NOT NULL DEFAULT 15000,
  rate_per_second int CHECK (rate_per_second > 0),
  rate_per_minute int CHECK (rate_per_minute > 0),
  rate_per_hour int CHECK (rate_per_hour > 0),
  concurrency int CHECK (concurrency > 0),
  -- State the protocol reads under this row's lock (PROTOCOL T3, T4).
  win int NOT NULL DEFAULT 256 CHECK (win > 0),
  paused boolean NOT NULL DEFAULT false,
  pause_reason text,
  -- The breaker is two times: nothing is leased before `closed_until`; then, while `trips` stands, one probe at a time.
  closed_until timestamptz NOT NULL DEFAULT '-infinity',
  failing_since timestamptz,
  failures_in_row int NOT NULL DEFAULT 0,
  trips int NOT NULL DEFAULT 0,
  slow_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX destinations_name ON destinations (name) WHERE deleted_at IS NULL;

-- Leases taken of late, of destinations with limits: per period, counts by hundredths of it. The row is the lock under
-- which leases are counted; what it counts runs out by itself.
CREATE TABLE lease_counts (
  destination_id text COLLATE "C" NOT NULL,
  -- 0 is the lock alone.
  period_ms int NOT NULL,
  slot bigint NOT NULL DEFAULT 0,
  counts int[] NOT NULL DEFAULT array_fill(0, ARRAY[101]),
  PRIMARY KEY (destination_id, period_ms)
) WITH (fillfactor = 50);

CREATE TABLE connections (
  id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  version int NOT NULL DEFAULT 1,
  source_id text COLLATE "C" NOT NULL,
  destination_id text COLLATE "C" NOT NULL,
  spec jsonb NOT NULL,
  managed_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock(),
  updated_at timestamptz NOT NULL DEFAULT clock(),
  deleted_at timestamptz,
  paused boolean NOT NULL DEFAULT false,
  pause_reason text,
  -- A failing event lets the later ones of its key pass (DESIGN §3.8: hold or skip).
  order_skip boolean NOT NULL DEFAULT false
);
CREATE INDEX connections_paused ON connections (id) WHERE paused;
CREATE UNIQUE INDEX connections_name ON connections (name) WHERE deleted_at IS NULL;

-- Every version that ever decided about an event, a delivery or an attempt. Secrets are not kept here.
CREATE TABLE config_history (
  kind text NOT NULL CHECK (kind IN ('source', 'destination', 'connection')),
  id text COLLATE "C" NOT NULL,
  version int NOT NULL,
  config_version bigint NOT NULL,
  spec jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT clock(),
  PRIMARY KEY (kind, id, version)
);

-- Events. CACHE 1: the order of acceptance hangs on it (PROTOCOL §4, last row).
CREATE SEQUENCE event_seq CACHE 1;
CREATE TABLE events (
  id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL DEFAULT nextval('event_seq'),
  source_id text COLLATE "C" NOT NULL,
  source_version int NOT NULL,
  state text NOT NULL CHECK (state IN ('accepted', 'routed', 'unroutable')),
  due_at timestamptz,
  route_tries int NOT NULL DEFAULT 0,
  type text,
  body_bytes int NOT NULL,
  received_at timestamptz NOT NULL,
  routed_at timestamptz,
  config_version bigint,
  -- JSON text: for each connection that did not match, why.
  routing text,
  CHECK ((state = 'accepted') = (due_at IS NOT NULL)),
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- The predicates name due_at alone, never the state, so that state changes can stay HOT.
CREATE INDEX events_due ON events (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX events_unrouted ON events (source_id, seq) WHERE due_at IS NOT NULL;

-- What was received, never updated: apart from the event's state so that a state change doesn't copy the body.
CREATE TABLE event_content (
  event_id text COLLATE "C" NOT NULL,
  method text NOT NULL,
  path text NOT NULL,
  query text NOT NULL,
  headers text NOT NULL,
  body bytea NOT NULL,
  traceparent text,
  remote_address text,
  PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);

-- Not partitioned: the key is unique over all time that the window covers.
CREATE TABLE dedupe (
  source_id text COLLATE "C" NOT NULL,
  key_hash bytea NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  body_hash bytea NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (source_id, key_hash)
);
CREATE INDEX dedupe_expires ON dedupe (expires_at);

CREATE TABLE duplicates (
  id text COLLATE "C" PRIMARY KEY,
  event_id text COLLATE "C" NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  received_at timestamptz NOT NULL,
  differs boolean NOT NULL,
  type text,
  method text,
  path text,
  query text,
  headers text,
  body bytea,
  traceparent text,
  promoted_as text COLLATE "C"
);
CREATE INDEX duplicates_event ON duplicates (event_id, received_at);

CREATE TABLE rejections (
  id text COLLATE "C" PRIMARY KEY,
  at timestamptz NOT NULL,
  source_name text NOT NULL,
  source_id text COLLATE "C",
  code text NOT NULL,
  status int NOT NULL,
  detail text NOT NULL,
  method text NOT NULL,
  path text NOT NULL,
  remote_address text,
  body_bytes int NOT NULL,
  -- Further requests of the same source and code that this row stands for.
  folded int NOT NULL DEFAULT 0
);

CREATE TABLE deliveries (
  id text COLLATE "C" NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  connection_id text COLLATE "C" NOT NULL,
  connection_version int NOT NULL,
  destination_id text COLLATE "C" NOT NULL,
  source_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  order_key text,
  -- An earlier one of its key was unfinished when it was last looked at; the gate in feed_v1 is the truth.
  blocked boolean NOT NULL DEFAULT false,
  lane text NOT NULL DEFAULT 'normal' CHECK (lane IN ('normal', 'retry', 'quarantine')),
  state text NOT NULL CHECK (state IN ('pending', 'queued', 'leased', 'retrying', 'delivered', 'dead', 'cancelled')),
  -- Indexed lower bound of the wake-up; NULL when terminal (I6).
  due_at timestamptz,
  -- The exact wake-up of an admitted row, not indexed, so that a lease is a HOT update.
  wake_at timestamptz,
  admitted boolean NOT NULL DEFAULT false,
  generation int NOT NULL DEFAULT 0,
  attempt int NOT NULL DEFAULT 0,
  failures int NOT NULL DEFAULT 0,
  lost_leases int NOT NULL DEFAULT 0,
  lease_token uuid,
  cancel_requested boolean NOT NULL DEFAULT false,
  succeeded boolean NOT NULL DEFAULT false,
  expires_at timestamptz NOT NULL,
  replay_of text COLLATE "C",
  traceparent text,
  dead_reason text,
  created_at timestamptz NOT NULL DEFAULT clock(),
  finished_at timestamptz,
  CHECK ((state IN ('delivered', 'dead', 'cancelled')) = (due_at IS NULL)),
  CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
  CHECK (admitted = (state IN ('queued', 'leased'))),
  CHECK (NOT admitted OR wake_at IS NOT NULL),
  CHECK ((state = 'dead') = (dead_reason IS NOT NULL)),
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- What the feed picks from: by connection, so that a paused one's backlog is stepped over.
CREATE INDEX deliveries_feedable ON deliveries (destination_id, connection_id, due_at, seq) WHERE due_at IS NOT NULL AND NOT admitted AND NOT blocked;
CREATE INDEX deliveries_waiting ON deliveries (destination_id, due_at, seq) WHERE due_at IS NOT NULL AND NOT admitted;
CREATE INDEX deliveries_admitted ON deliveries (destination_id) WHERE admitted;
-- What the sweeps look at: a lease leaves due_at as it is, so only what has been admitted for longer than a job takes.
-- Its second condition keeps it out of plans that ask by destination.
CREATE INDEX deliveries_overdue ON deliveries (due_at) WHERE admitted AND due_at IS NOT NULL;
CREATE INDEX deliveries_ordered ON deliveries (connection_id, order_key, seq) WHERE order_key IS NOT NULL AND due_at IS NOT NULL;
-- Dead letters, to be found among millions. Its column changes with a death or a retry only: no other update pays.
CREATE INDEX deliveries_dead ON deliveries (id) WHERE dead_reason IS NOT NULL;

-- Keyed by the lease, not by the number: a Postgres crash can hand a number out twice (PROTOCOL §4).
CREATE TABLE attempts (
  delivery_id text COLLATE "C" NOT NULL,
  lease_token uuid NOT NULL,
  number int NOT NULL,
  destination_version int NOT NULL,
  -- On Postgres's clock: what rate limits are judged by.
  leased_at timestamptz NOT NULL,
  started_at timestamptz NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('delivered', 'rejected', 'unreachable', 'blocked')),
  status int,
  code text,
  detail text,
  address text,
  response_headers text,
  response_body bytea,
  response_truncated boolean NOT NULL DEFAULT false,
  -- JSON text of milliseconds: dns, connect, tls, firstByte, total.
  timings text NOT NULL,
  PRIMARY KEY (delivery_id, lease_token)
) PARTITION BY RANGE (delivery_id);

-- What operators asked for, by idempotency key: the first answer is kept, a repeated key gets it again.
CREATE TABLE replays (
  key text PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('replay', 'retry')),
  target_id text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL DEFAULT clock(),
  -- What a replay made: the deliveries of an event that its own time doesn't lead to.
  delivery_ids text[] NOT NULL DEFAULT '{}',
  -- JSON text, not jsonb: the reasons in it quote values that may hold NUL.
  result text NOT NULL
);
CREATE INDEX replays_target ON replays (target_id, at);

-- Which Redis was last seen (run id and the key we left in it), to notice a wiped or rewound one.
CREATE TABLE redis_epoch (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  run_id text NOT NULL,
  key text NOT NULL,
  since timestamptz NOT NULL DEFAULT clock()
);

-- A fingerprint per encryption key id, to refuse a start with keys that can't open what is stored.
CREATE TABLE encryption_keys (
  id text PRIMARY KEY,
  fingerprint text NOT NULL,
  first_seen timestamptz NOT NULL DEFAULT clock()
);

CREATE TABLE admin_settings (
  name text PRIMARY KEY,
  value text NOT NULL
);

-- Days of events, deliveries and attempts, made ahead. Rows outside them fall into the default partitions.
CREATE TABLE events_default PARTITION OF events DEFAULT WITH (fillfactor = 80);
CREATE TABLE event_content_default PARTITION OF event_content DEFAULT;
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT WITH (fillfactor = 60);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

-- No statistics of events and deliveries: nearly all of them have ended, so whoever plans by what is usual takes every index
-- of the unfinished for empty, and any for as good as another; a backlog is then read whole. Without, plans are always those of a
-- table that nobody knows, and those are tested.
CREATE FUNCTION forget_statistics(of_table regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  one text;
BEGIN
  FOR one IN SELECT attname FROM pg_attribute WHERE attrelid = of_table AND attnum > 0 AND NOT attisdropped LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', of_table, one);
  END LOOP;
END $$;
SELECT forget_statistics('events'), forget_statistics('deliveries');

-- Failing or slow: its deliveries run in a lane of their own (DESIGN §3.7).
CREATE FUNCTION is_quarantined(t destinations) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT t.trips > 0 OR t.failures_in_row >= 3 OR t.slow_until > clock() $$;

-- How many of its deliveries may be admitted at once: one while its breaker probes, few while it fails, and no more than
-- twice what it takes at a time.
CREATE FUNCTION feed_window(t destinations) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN t.trips > 0 THEN 1 ELSE least(t.win, 2 * t.concurrency, CASE WHEN t.failures_in_row >= 3 THEN 64 END) END $$;

-- The breaker opens after 10 failures in a row over at least 10 s (a burst that one hiccup broke off is no sustained failure),
-- and again at once when a probe fails. What was under way when it opened doesn't count again.
CREATE FUNCTION breaker_trips(t destinations, healed boolean, faults int) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT coalesce(NOT healed AND faults > 0 AND t.closed_until <= clock()
    AND (t.trips > 0 OR (t.failures_in_row + faults >= 10 AND t.failing_since <= clock() - interval '10 seconds')), false) $$;

-- For 5 s at first, twice as long after each probe that failed, at most 5 minutes.
CREATE FUNCTION breaker_pause(trips int) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
  SELECT least(interval '5 minutes', interval '5 seconds' * 2 ^ least(trips, 10)) $$;

-- T1 (PROTOCOL §2): keys first, winners read in a second statement (a later snapshot: the winner's commit is in it),
-- then events in order of arrival. One call is one transaction. Equal keys were folded by the caller. Returns the duplicates:
-- whatever is not among them was inserted.
CREATE FUNCTION accept_v1(
  ids text[], source_ids text[], source_versions int[], key_hashes bytea[], body_hashes bytea[], windows_ms bigint[],
  types text[], methods text[], paths text[], queries text[], header_texts text[], bodies bytea[],
  traceparents text[], remote_addresses text[], received timestamptz[], route_wait interval
) RETURNS TABLE (n int, first_id text, first_body_hash bytea) LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM unnest(key_hashes) k WHERE k IS NOT NULL) THEN
    INSERT INTO dedupe AS d (source_id, key_hash, event_id, body_hash, expires_at)
    SELECT r.s, r.k, r.e, r.b, clock() + r.w * interval '1 millisecond'
    FROM unnest(source_ids, key_hashes, ids, body_hashes, windows_ms) AS r(s, k, e, b, w)
    WHERE r.k IS NOT NULL
    ORDER BY r.s, r.k
    ON CONFLICT (source_id, key_hash) DO UPDATE
      SET event_id = excluded.event_id, body_hash = excluded.body_hash, expires_at = excluded.expires_at
      WHERE d.expires_at <= clock();
  END IF;
  RETURN QUERY
  WITH r AS MATERIALIZED (
    SELECT a.*, d.event_id AS winner, d.body_hash AS winner_hash
    FROM unnest(ids, source_ids, source_versions, key_hashes, types, methods, paths, queries, header_texts, bodies,
                traceparents, remote_addresses, received)
         WITH ORDINALITY AS a(id, source, source_version, key_hash, type, method, path, query, headers, body,
                              traceparent, remote_address, received_at, n)
    LEFT JOIN dedupe d ON d.source_id = a.source AND d.key_hash = a.key_hash
  ), won AS MATERIALIZED (
    SELECT * FROM r WHERE r.key_hash IS NULL OR r.winner = r.id ORDER BY r.n
  ), e AS (
    INSERT INTO events (id, source_id, source_version, state, due_at, type, body_bytes, received_at)
    SELECT w.id, w.source, w.source_version, 'accepted', clock() + route_wait, w.type, length(w.body), w.received_at
    FROM won w ORDER BY w.n
  ), c AS (
    INSERT INTO event_content (event_id, method, path, query, headers, body, traceparent, remote_address)
    SELECT w.id, w.method, w.path, w.query, w.headers, w.body, w.traceparent, w.remote_address FROM won w ORDER BY w.n
  )
  SELECT r.n::int, r.winner, r.winner_hash FROM r WHERE r.key_hash IS NOT NULL AND r.winner IS DISTINCT FROM r.id;
END $$;

-- T2 (PROTOCOL §2), and T3 for what it makes where that can be done at once: a new delivery whose destination is open,
-- has room and has nothing older waiting is inserted as queued, in place of pending and then queued. Statement 1 locks the
-- destinations, statement 2 counts, as T3 asks. A destination that another holds, or that has no room, gets its delivery
-- as pending, and the caller feeds it after this commit (`to_feed`): only then does a result that frees room see it.
-- Returns the exceptions: events that were not moved (another copy routed them), deliveries that wait.
CREATE FUNCTION route_v1(
  decided_by bigint, event_ids text[], reasons text[],
  delivery_ids text[], delivery_events int[], seqs bigint[], source_ids text[], connection_ids text[], connection_versions int[], destination_ids text[],
  order_keys text[], delays_ms float8[], max_ages_ms float8[], traceparents text[], queue_wait interval, admit boolean
) RETURNS TABLE (current_version bigint, not_moved text[], waiting text[], to_feed text[], to_feed_tenants text[], quarantined text[]) LANGUAGE plpgsql AS $$
DECLARE
  newest bigint;
  open_destinations text[];
  paused_connections text[];
BEGIN
  SELECT version INTO newest FROM config;
  IF newest <> decided_by THEN
    RETURN QUERY SELECT newest, NULL::text[], NULL::text[], NULL::text[], NULL::text[], NULL::text[];
    RETURN;
  END IF;

  IF admit THEN
    -- A limit, or a breaker that is not quite closed, leaves the pace to the feed.
    SELECT array_agg(t.id) INTO open_destinations FROM (
      SELECT d.id FROM destinations d
      WHERE d.id = ANY(destination_ids) AND NOT d.paused AND d.closed_until <= clock() AND d.deleted_at IS NULL AND d.trips = 0
        -- Whoever has a backlog is fed; a lock here would only be in the way of that.
        AND NOT EXISTS (SELECT 1 FROM deliveries w WHERE w.destination_id = d.id AND w.due_at IS NOT NULL AND NOT w.admitted AND w.due_at <= clock())
        AND coalesce(d.rate_per_second, d.rate_per_minute, d.rate_per_hour, d.concurrency) IS NULL
      ORDER BY d.id FOR NO KEY UPDATE SKIP LOCKED) t;
    SELECT array_agg(c.id) INTO paused_connections FROM connections c WHERE c.paused;
  END IF;

  RETURN QUERY
  WITH moved AS (
    UPDATE events e SET state = 'routed', due_at = NULL, routed_at = clock(), config_version = decided_by, routing = r.reasons
    FROM (SELECT u.id, u.reasons, u.n FROM unnest(event_ids, reasons) WITH ORDINALITY AS u(id, reasons, n) ORDER BY u.id) r
    WHERE e.id = r.id AND e.state = 'accepted'
    RETURNING r.n::int AS n
  ), room AS MATERIALIZED (
    -- Correlated on purpose, and kept so by LIMIT: as a join it would walk the waiting deliveries of every destination.
    SELECT t.id, CASE WHEN is_quarantined(t) THEN 'quarantine' ELSE 'normal' END AS lane, CASE WHEN (SELECT 1 FROM deliveries w WHERE w.destination_id = t.id AND w.due_at IS NOT NULL AND NOT w.admitted AND w.due_at <= clock() LIMIT 1) IS NULL
      THEN feed_window(t) - (SELECT count(*) FROM deliveries a WHERE a.destination_id = t.id AND a.admitted) ELSE 0 END AS free
    FROM destinations t WHERE t.id = ANY(open_destinations)
  ), new AS MATERIALIZED (
    SELECT d.*, room.free, room.lane, row_number() OVER (PARTITION BY d.destination ORDER BY d.order_key IS NOT NULL OR d.delay_ms > 0, d.seq) AS place
    FROM unnest(delivery_ids, delivery_events, seqs, source_ids, connection_ids, connection_versions, destination_ids, order_keys, delays_ms, max_ages_ms, traceparents)
      AS d(id, event, seq, source, connection, connection_version, destination, order_key, delay_ms, max_age_ms, traceparent)
    LEFT JOIN room ON room.id = d.destination
    -- IS TRUE keeps this a hashed lookup and no join.
    WHERE (d.event IN (SELECT m.n FROM moved m)) IS TRUE
  ), made AS (
    INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, order_key,
                            state, admitted, lane, generation, due_at, wake_at, expires_at, traceparent)
    SELECT n.id, event_ids[n.event], n.connection, n.connection_version, n.destination, n.source, n.seq, n.order_key,
      CASE WHEN q.now THEN 'queued' ELSE 'pending' END, q.now, coalesce(n.lane, 'normal'), CASE WHEN q.now THEN 1 ELSE 0 END,
      clock() + CASE WHEN q.now THEN queue_wait ELSE n.delay_ms * interval '1 millisecond' END,
      CASE WHEN q.now THEN clock() + queue_wait END,
      clock() + n.max_age_ms * interval '1 millisecond', n.traceparent
    FROM new n, LATERAL (SELECT n.order_key IS NULL AND n.delay_ms = 0 AND coalesce(n.place <= n.free, false)
      AND (n.connection = ANY(paused_connections)) IS NOT TRUE AS now) q
    ON CONFLICT (id) DO NOTHING
    RETURNING deliveries.id, deliveries.admitted, deliveries.destination_id
  ), unfed AS MATERIALIZED (
    SELECT t.id, t.tenant FROM destinations t WHERE t.id IN (SELECT m.destination_id FROM made m WHERE NOT m.admitted))
  SELECT newest,
    (SELECT array_agg(u.id) FROM unnest(event_ids) WITH ORDINALITY AS u(id, n) WHERE (u.n IN (SELECT m.n FROM moved m)) IS NOT TRUE),
    (SELECT array_agg(m.id) FROM made m WHERE NOT m.admitted),
    (SELECT array_agg(u.id ORDER BY u.id) FROM unfed u),
    (SELECT array_agg(u.tenant ORDER BY u.id) FROM unfed u),
    (SELECT array_agg(room.id) FROM room WHERE room.lane = 'quarantine');
END $$;

-- A destination's limits, each with its period. Any span of a period touches at most 101 of its hundredths, so that as
-- many leases as the limit in the last 101 are never over it in any window, and give 100/101 of it under backlog.
CREATE FUNCTION rate_limits(t destinations) RETURNS TABLE (period_ms int, per_period int) LANGUAGE sql IMMUTABLE AS $$
  SELECT * FROM (VALUES (1000, t.rate_per_second), (60000, t.rate_per_minute), (3600000, t.rate_per_hour)) AS l(period_ms, per_period)
  WHERE l.per_period IS NOT NULL ORDER BY 1 $$;

-- The counts with the slots between the last one and `now_slot` emptied. Slot s lies at 1 + s % 101.
CREATE FUNCTION counts_at(counts int[], slot bigint, now_slot bigint) RETURNS int[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF now_slot - slot >= 101 THEN RETURN array_fill(0, ARRAY[101]); END IF;
  FOR passed IN 1 .. (now_slot - slot)::int LOOP
    counts[1 + ((slot + passed) % 101)::int] := 0;
  END LOOP;
  RETURN counts;
END $$;

-- When, in slots from `now_slot`, the first counted lease leaves the window: 1 to 101.
CREATE FUNCTION slots_to_wait(counts int[], now_slot bigint) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  FOR ahead IN 1 .. 101 LOOP
    IF counts[1 + ((now_slot + ahead) % 101)::int] > 0 THEN RETURN ahead; END IF;
  END LOOP;
  RETURN 101;
END $$;

-- Inside a lease (T4): takes as many of the wanted leases as the limits allow, under the lock of the destination's counts.
-- Each statement of a volatile function takes a new snapshot, so it sees what the lock waited out. Its time is that of
-- counting, after the lock: times of leases never run behind their counts.
CREATE FUNCTION take_leases_v1(of_destination text, wanted int) RETURNS TABLE (granted int, wait_ms float8, at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
  t destinations;
  l record;
  now_ms float8;
  now_slot bigint;
  kept lease_counts;
  sum_counts bigint;
  at_once int;
BEGIN
  INSERT INTO lease_counts (destination_id, period_ms) VALUES (of_destination, 0) ON CONFLICT DO NOTHING;
  PERFORM 1 FROM lease_counts WHERE destination_id = of_destination AND period_ms = 0 FOR UPDATE;
  SELECT * INTO t FROM destinations WHERE id = of_destination;
  at := clock() + (clock_timestamp() - now());
  now_ms := extract(epoch FROM at) * 1000;
  granted := wanted;

  at_once := CASE WHEN t.trips > 0 THEN 1 ELSE t.concurrency END;
  IF at_once IS NOT NULL THEN
    SELECT least(granted, greatest(0, at_once - count(*))) INTO granted
    FROM deliveries d WHERE d.destination_id = of_destination AND d.admitted AND d.state = 'leased';
  END IF;

  FOR l IN SELECT * FROM rate_limits(t) LOOP
    EXIT WHEN granted = 0;
    INSERT INTO lease_counts (destination_id, period_ms) VALUES (of_destination, l.period_ms) ON CONFLICT DO NOTHING;
    SELECT * INTO kept FROM lease_counts WHERE destination_id = of_destination AND period_ms = l.period_ms;
    -- Never back: a clock that was set back must not open a window that is counted already.
    now_slot := greatest(kept.slot, floor(now_ms * 100 / l.period_ms)::bigint);
    kept.counts := counts_at(kept.counts, kept.slot, now_slot);
    SELECT sum(c) INTO sum_counts FROM unnest(kept.counts) c;
    IF sum_counts + granted > l.per_period THEN
      granted := greatest(0, l.per_period - sum_counts);
      wait_ms := greatest(wait_ms, (now_slot + slots_to_wait(kept.counts, now_slot)) * l.period_ms / 100.0 - now_ms);
    END IF;
  END LOOP;

  FOR l IN SELECT * FROM rate_limits(t) LOOP
    EXIT WHEN granted = 0;
    SELECT * INTO kept FROM lease_counts WHERE destination_id = of_destination AND period_ms = l.period_ms;
    now_slot := greatest(kept.slot, floor(now_ms * 100 / l.period_ms)::bigint);
    kept.counts := counts_at(kept.counts, kept.slot, now_slot);
    kept.counts[1 + (now_slot % 101)::int] := kept.counts[1 + (now_slot % 101)::int] + granted;
    UPDATE lease_counts SET counts = kept.counts, slot = now_slot WHERE destination_id = of_destination AND period_ms = l.period_ms;
  END LOOP;
  RETURN NEXT;
END $$;

-- How many leases the rate limits of a destination will allow within `ahead_ms`, and, when none, in how long to ask again.
-- A look without the lock: the lease decides.
CREATE FUNCTION lease_room_v1(t destinations, ahead_ms float8) RETURNS TABLE (room int, later_ms float8) LANGUAGE plpgsql STABLE AS $$
DECLARE
  l record;
  kept lease_counts;
  then_ms float8 := extract(epoch FROM clock()) * 1000 + ahead_ms;
  then_slot bigint;
  sum_counts bigint;
BEGIN
  room := 1000000000;
  later_ms := 0;
  FOR l IN SELECT * FROM rate_limits(t) LOOP
    SELECT * INTO kept FROM lease_counts c WHERE c.destination_id = t.id AND c.period_ms = l.period_ms;
    IF NOT FOUND THEN
      room := least(room, l.per_period);
      CONTINUE;
    END IF;
    then_slot := greatest(kept.slot, floor(then_ms * 100 / l.period_ms)::bigint);
    kept.counts := counts_at(kept.counts, kept.slot, then_slot);
    SELECT sum(c) INTO sum_counts FROM unnest(kept.counts) c;
    room := least(room, greatest(0, l.per_period - sum_counts));
    IF sum_counts >= l.per_period THEN
      later_ms := greatest(later_ms, slots_to_wait(kept.counts, then_slot) * l.period_ms / 100.0);
    END IF;
  END LOOP;
  RETURN NEXT;
END $$;

-- T3 (PROTOCOL §2) for each destination, at most so many: statement 1 locks the destination's row, statement 2 counts and
-- admits (a volatile function's statements each take a new snapshot, so the count sees what the lock waited out).
-- A row per admitted delivery, and one per destination with something to say: `locked`, another feeder holds it;
-- `later_ms`, its rate allows more then; `more`, it took all it might and more is due; `ordered_connection` and `ordered_key`,
-- a key of which something was marked or ended here: the caller asks `unblock` for it after this commit.
CREATE FUNCTION feed_v1(destinations_wanted text[], at_most int[], queue_wait interval, rate_ahead_ms float8, deleted_max int)
RETURNS TABLE (destination text, delivery text, delivery_generation int, delivery_lane text, locked boolean, later_ms float8, more boolean, ordered_connection text, ordered_key text) LANGUAGE plpgsql AS $$
DECLARE
  wanted text;
  most int;
  t destinations;
  free int;
  page_max int;
  rate_room int;
  rate_later_ms float8;
  ended int;
BEGIN
  FOR wanted, most IN SELECT u.id, u.most FROM unnest(destinations_wanted, at_most) AS u(id, most) LOOP
    CONTINUE WHEN NOT EXISTS (
      SELECT 1 FROM deliveries d
      WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted AND d.due_at <= clock());

    SELECT * INTO t FROM destinations x
    WHERE x.id = wanted AND (x.deleted_at IS NOT NULL OR (NOT x.paused AND x.closed_until <= clock()))
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      IF EXISTS (SELECT 1 FROM destinations x WHERE x.id = wanted AND NOT x.paused AND x.closed_until <= clock()) THEN
        RETURN QUERY SELECT wanted, NULL::text, NULL::int, NULL::text, true, NULL::float8, false, NULL::text, NULL::text;
      END IF;
      CONTINUE;
    END IF;

    IF t.deleted_at IS NOT NULL THEN
      WITH gone AS MATERIALIZED (
        SELECT d.id FROM deliveries d WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted
        ORDER BY d.due_at, d.seq LIMIT deleted_max FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'dead', dead_reason = 'destination_deleted', due_at = NULL, finished_at = clock()
      FROM gone WHERE d.id = gone.id;
      GET DIAGNOSTICS ended = ROW_COUNT;
      RETURN QUERY SELECT wanted, NULL::text, NULL::int, NULL::text, false, NULL::float8, ended = deleted_max, NULL::text, NULL::text;
      CONTINUE;
    END IF;

    SELECT greatest(0, feed_window(t) - count(*)) INTO free FROM deliveries d WHERE d.destination_id = wanted AND d.admitted;
    CONTINUE WHEN free = 0;
    IF coalesce(t.rate_per_second, t.rate_per_minute, t.rate_per_hour) IS NOT NULL THEN
      SELECT r.room, r.later_ms INTO rate_room, rate_later_ms FROM lease_room_v1(t, rate_ahead_ms) r;
      IF rate_room = 0 THEN
        RETURN QUERY SELECT wanted, NULL::text, NULL::int, NULL::text, false, rate_later_ms, false, NULL::text, NULL::text;
        CONTINUE;
      END IF;
      -- What is queued already takes its part; its results ask for more.
      SELECT least(free, rate_room - count(*)) INTO free FROM deliveries d WHERE d.destination_id = wanted AND d.admitted AND d.state = 'queued';
      CONTINUE WHEN free <= 0;
    END IF;
    free := least(free, most);
    -- Of a line that is to be marked, more than may be admitted.
    page_max := greatest(free, 100);

    -- What is over its maximum age ends here as a dead letter, in place of being admitted. The order gate stands before the
    -- last LIMIT, and what it holds back is marked, so that it fills no page again.
    RETURN QUERY
    WITH RECURSIVE waiting AS (
      (SELECT d.connection_id AS id FROM deliveries d WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted AND NOT d.blocked
       ORDER BY d.connection_id LIMIT 1)
      UNION ALL
      SELECT (SELECT d.connection_id FROM deliveries d
              WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted AND NOT d.blocked AND d.connection_id > w.id
              ORDER BY d.connection_id LIMIT 1)
      FROM waiting w WHERE w.id IS NOT NULL
    ), page AS MATERIALIZED (
      SELECT x.*, c.order_skip FROM waiting w JOIN connections c ON c.id = w.id, LATERAL (
        SELECT d.id, d.connection_id, d.source_id, d.order_key, d.seq, d.due_at, d.failures FROM deliveries d
        WHERE d.destination_id = wanted AND d.connection_id = w.id AND d.due_at IS NOT NULL AND NOT d.admitted AND NOT d.blocked AND d.due_at <= clock()
        ORDER BY d.due_at, d.seq LIMIT page_max) x
      WHERE NOT c.paused
    ), under_way AS MATERIALIZED (
      SELECT d.connection_id, d.order_key FROM deliveries d WHERE d.destination_id = wanted AND d.admitted AND d.order_key IS NOT NULL
    ), gated AS MATERIALIZED (
      SELECT p.id, p.due_at, p.seq, p.order_key IS NOT NULL AND ((p.connection_id, p.order_key) IN (SELECT u.connection_id, u.order_key FROM under_way u)
          OR CASE WHEN p.order_skip
          -- Skip: one of its key at a time, and none that never failed before an earlier one that never failed.
          THEN row_number() OVER (PARTITION BY p.connection_id, p.order_key ORDER BY p.failures > 0, p.seq) > 1
            OR p.failures = 0 AND EXISTS (SELECT 1 FROM deliveries e WHERE e.connection_id = p.connection_id AND e.order_key = p.order_key
                       AND e.order_key IS NOT NULL AND e.due_at IS NOT NULL AND e.failures = 0 AND e.seq < p.seq)
          ELSE EXISTS (SELECT 1 FROM deliveries e WHERE e.connection_id = p.connection_id AND e.order_key = p.order_key AND e.order_key IS NOT NULL
                       AND e.due_at IS NOT NULL AND e.seq < p.seq) END) AS behind,
        p.order_key IS NOT NULL AND EXISTS (SELECT 1 FROM events e WHERE e.source_id = p.source_id AND e.due_at IS NOT NULL AND e.seq < p.seq) AS unrouted_before
      FROM page p
    ), held_back AS MATERIALIZED (
      SELECT d.id FROM gated g JOIN deliveries d ON d.id = g.id WHERE g.behind AND d.due_at IS NOT NULL AND NOT d.admitted ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
    ), mark AS (
      UPDATE deliveries d SET blocked = true FROM held_back h WHERE d.id = h.id RETURNING d.connection_id, d.order_key
    ), pick AS MATERIALIZED (
      SELECT d.id, d.expires_at <= clock() AS expired
      FROM (SELECT g.id FROM gated g WHERE NOT g.behind AND NOT g.unrouted_before ORDER BY g.due_at, g.seq LIMIT free) g JOIN deliveries d ON d.id = g.id
      WHERE d.due_at IS NOT NULL AND NOT d.admitted
      ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
    ), moved AS (
      UPDATE deliveries d SET
        state = CASE WHEN pick.expired THEN 'dead' ELSE 'queued' END,
        dead_reason = CASE WHEN pick.expired THEN 'expired' END,
        finished_at = CASE WHEN pick.expired THEN clock() END,
        admitted = NOT pick.expired,
        lane = CASE WHEN is_quarantined(t) THEN 'quarantine' WHEN d.failures > 0 THEN 'retry' ELSE 'normal' END,
        generation = d.generation + 1,
        due_at = CASE WHEN NOT pick.expired THEN clock() + queue_wait END,
        wake_at = CASE WHEN NOT pick.expired THEN clock() + queue_wait END
      FROM pick WHERE d.id = pick.id
      RETURNING d.id, d.generation, d.lane, d.admitted, d.seq, d.connection_id, d.order_key)
    (SELECT wanted, m.id, m.generation, m.lane, false, NULL::float8, false, NULL::text, NULL::text FROM moved m WHERE m.admitted ORDER BY m.seq)
    UNION ALL
    SELECT wanted, NULL::text, NULL::int, NULL::text, false, NULL::float8, true, NULL::text, NULL::text
    WHERE (free = most AND (SELECT count(*) FROM page) >= most AND EXISTS (SELECT 1 FROM pick))
      OR ((SELECT count(*) FROM page) >= page_max AND (EXISTS (SELECT 1 FROM gated g WHERE g.behind) OR EXISTS (SELECT 1 FROM pick WHERE pick.expired)))
    UNION ALL
    SELECT DISTINCT wanted, NULL::text, NULL::int, NULL::text, false, NULL::float8, false, k.connection_id, k.order_key
    FROM (SELECT m.connection_id, m.order_key FROM mark m UNION ALL
          SELECT m.connection_id, m.order_key FROM moved m WHERE NOT m.admitted AND m.order_key IS NOT NULL) k;
  END LOOP;
END $$;
