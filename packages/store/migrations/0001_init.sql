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
  -- State the protocol reads under this row's lock (PROTOCOL T3, T4).
  win int NOT NULL DEFAULT 2000 CHECK (win > 0),
  attempt_timeout_ms int NOT NULL DEFAULT 15000,
  paused boolean NOT NULL DEFAULT false,
  pause_reason text,
  closed_until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX destinations_name ON destinations (name) WHERE deleted_at IS NULL;

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
  deleted_at timestamptz
);
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
CREATE INDEX deliveries_waiting ON deliveries (destination_id, due_at, seq) WHERE due_at IS NOT NULL AND NOT admitted;
CREATE INDEX deliveries_admitted ON deliveries (destination_id, due_at) WHERE admitted;
CREATE INDEX deliveries_ordered ON deliveries (connection_id, order_key, seq) WHERE order_key IS NOT NULL AND due_at IS NOT NULL;
-- Dead letters, to be found among millions. Its column changes with a death or a retry only: no other update pays.
CREATE INDEX deliveries_dead ON deliveries (id) WHERE dead_reason IS NOT NULL;

-- Keyed by the lease, not by the number: a Postgres crash can hand a number out twice (PROTOCOL §4).
CREATE TABLE attempts (
  delivery_id text COLLATE "C" NOT NULL,
  lease_token uuid NOT NULL,
  number int NOT NULL,
  destination_version int NOT NULL,
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
  order_keys text[], delays_ms float8[], max_ages_ms float8[], traceparents text[], queue_wait interval
) RETURNS TABLE (current_version bigint, not_moved text[], waiting text[], to_feed text[]) LANGUAGE plpgsql AS $$
DECLARE
  newest bigint;
  open_destinations text[];
BEGIN
  SELECT version INTO newest FROM config;
  IF newest <> decided_by THEN
    RETURN QUERY SELECT newest, NULL::text[], NULL::text[], NULL::text[];
    RETURN;
  END IF;

  SELECT array_agg(t.id) INTO open_destinations FROM (
    SELECT d.id FROM destinations d WHERE d.id = ANY(destination_ids) AND NOT d.paused AND d.closed_until <= clock() AND d.deleted_at IS NULL
    ORDER BY d.id FOR NO KEY UPDATE SKIP LOCKED) t;

  RETURN QUERY
  WITH moved AS (
    UPDATE events e SET state = 'routed', due_at = NULL, routed_at = clock(), config_version = decided_by, routing = r.reasons
    FROM (SELECT u.id, u.reasons, u.n FROM unnest(event_ids, reasons) WITH ORDINALITY AS u(id, reasons, n) ORDER BY u.id) r
    WHERE e.id = r.id AND e.state = 'accepted'
    RETURNING r.n::int AS n
  ), room AS MATERIALIZED (
    -- Correlated on purpose, and kept so by LIMIT: as a join it would walk the waiting deliveries of every destination.
    SELECT t.id, CASE WHEN (SELECT 1 FROM deliveries w WHERE w.destination_id = t.id AND w.due_at IS NOT NULL AND NOT w.admitted AND w.due_at <= clock() LIMIT 1) IS NULL
      THEN t.win - (SELECT count(*) FROM deliveries a WHERE a.destination_id = t.id AND a.admitted) ELSE 0 END AS free
    FROM destinations t WHERE t.id = ANY(open_destinations)
  ), new AS MATERIALIZED (
    SELECT d.*, room.free, row_number() OVER (PARTITION BY d.destination ORDER BY d.order_key IS NOT NULL OR d.delay_ms > 0, d.seq) AS place
    FROM unnest(delivery_ids, delivery_events, seqs, source_ids, connection_ids, connection_versions, destination_ids, order_keys, delays_ms, max_ages_ms, traceparents)
      AS d(id, event, seq, source, connection, connection_version, destination, order_key, delay_ms, max_age_ms, traceparent)
    LEFT JOIN room ON room.id = d.destination
    -- IS TRUE keeps this a hashed lookup and no join.
    WHERE (d.event IN (SELECT m.n FROM moved m)) IS TRUE
  ), made AS (
    INSERT INTO deliveries (id, event_id, connection_id, connection_version, destination_id, source_id, seq, order_key,
                            state, admitted, generation, due_at, wake_at, expires_at, traceparent)
    SELECT n.id, event_ids[n.event], n.connection, n.connection_version, n.destination, n.source, n.seq, n.order_key,
      CASE WHEN q.now THEN 'queued' ELSE 'pending' END, q.now, CASE WHEN q.now THEN 1 ELSE 0 END,
      clock() + CASE WHEN q.now THEN queue_wait ELSE n.delay_ms * interval '1 millisecond' END,
      CASE WHEN q.now THEN clock() + queue_wait END,
      clock() + n.max_age_ms * interval '1 millisecond', n.traceparent
    FROM new n, LATERAL (SELECT n.order_key IS NULL AND n.delay_ms = 0 AND coalesce(n.place <= n.free, false) AS now) q
    ON CONFLICT (id) DO NOTHING
    RETURNING deliveries.id, deliveries.admitted, deliveries.destination_id)
  SELECT newest,
    (SELECT array_agg(u.id) FROM unnest(event_ids) WITH ORDINALITY AS u(id, n) WHERE (u.n IN (SELECT m.n FROM moved m)) IS NOT TRUE),
    (SELECT array_agg(m.id) FROM made m WHERE NOT m.admitted),
    (SELECT array_agg(DISTINCT m.destination_id) FROM made m WHERE NOT m.admitted);
END $$;

-- T3 (PROTOCOL §2) for each destination: statement 1 locks the destination's row, statement 2 counts and admits
-- (a volatile function's statements each take a new snapshot, so the count sees what the lock waited out).
-- A row per admitted delivery; `locked` marks a destination that another feeder holds: ask again.
CREATE FUNCTION feed_v1(destinations_wanted text[], queue_wait interval, deleted_max int)
RETURNS TABLE (destination text, delivery text, delivery_generation int, locked boolean) LANGUAGE plpgsql AS $$
DECLARE
  wanted text;
  room int;
  is_deleted boolean;
BEGIN
  FOREACH wanted IN ARRAY destinations_wanted LOOP
    CONTINUE WHEN NOT EXISTS (
      SELECT 1 FROM deliveries d
      WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted AND d.due_at <= clock());

    SELECT t.win, t.deleted_at IS NOT NULL INTO room, is_deleted FROM destinations t
    WHERE t.id = wanted AND (t.deleted_at IS NOT NULL OR (NOT t.paused AND t.closed_until <= clock()))
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      IF EXISTS (SELECT 1 FROM destinations t WHERE t.id = wanted AND NOT t.paused AND t.closed_until <= clock()) THEN
        RETURN QUERY SELECT wanted, NULL::text, NULL::int, true;
      END IF;
      CONTINUE;
    END IF;

    IF is_deleted THEN
      WITH gone AS MATERIALIZED (
        SELECT d.id FROM deliveries d WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted
        ORDER BY d.due_at, d.seq LIMIT deleted_max FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'dead', dead_reason = 'destination_deleted', due_at = NULL, finished_at = clock()
      FROM gone WHERE d.id = gone.id;
      CONTINUE;
    END IF;

    -- What is over its maximum age ends here as a dead letter, in place of being admitted.
    RETURN QUERY
    WITH free AS MATERIALIZED (
      SELECT greatest(0, room - count(*))::int AS n FROM deliveries d WHERE d.destination_id = wanted AND d.admitted
    ), pick AS MATERIALIZED (
      SELECT d.id, d.expires_at <= clock() AS expired FROM deliveries d
      WHERE d.destination_id = wanted AND d.due_at IS NOT NULL AND NOT d.admitted AND d.due_at <= clock()
        AND (d.order_key IS NULL OR (
          NOT EXISTS (SELECT 1 FROM deliveries p WHERE p.connection_id = d.connection_id AND p.order_key = d.order_key
                      AND p.order_key IS NOT NULL AND p.due_at IS NOT NULL AND p.seq < d.seq)
          AND NOT EXISTS (SELECT 1 FROM events e WHERE e.source_id = d.source_id AND e.due_at IS NOT NULL AND e.seq < d.seq)))
      ORDER BY d.due_at, d.seq LIMIT (SELECT n FROM free) FOR UPDATE OF d SKIP LOCKED
    ), moved AS (
      UPDATE deliveries d SET
        state = CASE WHEN pick.expired THEN 'dead' ELSE 'queued' END,
        dead_reason = CASE WHEN pick.expired THEN 'expired' END,
        finished_at = CASE WHEN pick.expired THEN clock() END,
        admitted = NOT pick.expired,
        generation = d.generation + 1,
        due_at = CASE WHEN NOT pick.expired THEN clock() + queue_wait END,
        wake_at = CASE WHEN NOT pick.expired THEN clock() + queue_wait END
      FROM pick WHERE d.id = pick.id
      RETURNING d.id, d.generation, d.admitted)
    SELECT wanted, m.id, m.generation, false FROM moved m WHERE m.admitted;
  END LOOP;
END $$;
