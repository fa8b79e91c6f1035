import type { ConnectionId, DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { Lane } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'

export interface Admitted {
  id: DeliveryId
  generation: number
  destinationId: DestinationId
  lane: Lane
}

export interface Fed {
  admitted: Admitted[]
  /** Another feeder holds them: ask again soon. */
  skipped: DestinationId[]
  /** Their rate limits allow more after that time: ask then. */
  later: { id: DestinationId; afterMs: number }[]
  /** They took all they might, and more is due: ask again when it is their turn. */
  more: DestinationId[]
}

/** When the sweep leases an admitted delivery that no job brought: well past the queue's usual latency, or every backlog is swept twice. */
export const queueWaitMs = 10_000

/** How many deliveries of a deleted destination one call ends. */
const deletedMax = 1_000
/** Deliveries of a destination with a rate limit are admitted this long before their leases can be had, so that none comes late. */
const rateAheadMs = 2_000

/**
 * T3 for each of these destinations: admits as many due deliveries as its window has room for, at most `max`.
 * `queueWaitMs` is when the sweep may lease them without a job; 0 when there is no queue to wait for.
 */
export async function feed(
  db: Db,
  wanted: ReadonlyArray<{ id: DestinationId; max: number }>,
  queueWaitMs: number,
): Promise<Fed> {
  const { rows } = await db.query<{
    destination: DestinationId
    delivery: DeliveryId | null
    delivery_generation: number
    delivery_lane: Lane
    locked: boolean
    later_ms: number | null
    ordered_connection: ConnectionId | null
    ordered_key: string
  }>({
    name: 'feed',
    text: `SELECT destination, delivery, delivery_generation, delivery_lane, locked, later_ms, ordered_connection, ordered_key
      FROM feed_v1($1, $2, $3 * interval '1 millisecond', $4, $5)`,
    values: [wanted.map((one) => one.id), wanted.map((one) => one.max), queueWaitMs, rateAheadMs, deletedMax],
  })
  const fed: Fed = { admitted: [], skipped: [], later: [], more: [] }
  const touched: OrderKey[] = []
  for (const row of rows) {
    if (row.delivery !== null)
      fed.admitted.push({
        id: row.delivery,
        generation: row.delivery_generation,
        destinationId: row.destination,
        lane: row.delivery_lane,
      })
    else if (row.locked) fed.skipped.push(row.destination)
    else if (row.later_ms !== null) fed.later.push({ id: row.destination, afterMs: row.later_ms })
    else if (row.ordered_connection !== null)
      touched.push({ connectionId: row.ordered_connection, orderKey: row.ordered_key })
    else fed.more.push(row.destination)
  }
  // What was marked here may have lost the one before it meanwhile, to a result that didn't see the mark; and behind what
  // expired here another stands.
  if (touched.length > 0) fed.more.push(...(await unblock(db, touched)))
  return fed
}

/**
 * Of the next `walkedMax` destinations after `after` that have waiting deliveries, those that may be fed and have one whose
 * time has come. Walks the index from destination to destination, so a long backlog of one costs one step. `walkedTo` is
 * where the next walk goes on; null at the end.
 */
export async function dueDestinations(
  db: Db,
  after: DestinationId | null,
  walkedMax: number,
): Promise<{ due: { id: DestinationId; tenant: string }[]; walkedTo: DestinationId | null }> {
  const { rows } = await db.query<{ id: DestinationId; tenant: string; due: boolean }>({
    name: 'due_destinations',
    text: `WITH RECURSIVE waiting AS (
        (SELECT destination_id AS id, 1 AS n FROM deliveries
         WHERE due_at IS NOT NULL AND NOT admitted AND destination_id > $1 ORDER BY destination_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.destination_id FROM deliveries d
                WHERE d.due_at IS NOT NULL AND NOT d.admitted AND d.destination_id > w.id ORDER BY d.destination_id LIMIT 1), w.n + 1
        FROM waiting w WHERE w.id IS NOT NULL AND w.n < $2)
      SELECT t.id, t.tenant, (t.deleted_at IS NOT NULL OR (NOT t.paused AND t.closed_until <= clock()))
        AND EXISTS (SELECT 1 FROM deliveries d WHERE d.destination_id = t.id AND d.due_at IS NOT NULL AND NOT d.admitted AND d.due_at <= clock()) AS due
      FROM waiting w JOIN destinations t ON t.id = w.id ORDER BY w.n`,
    values: [after ?? '', walkedMax],
  })
  return {
    due: rows.flatMap(({ id, tenant, due }) => (due ? { id, tenant } : [])),
    walkedTo: rows.length === walkedMax ? (rows.at(-1)?.id ?? null) : null,
  }
}

/** Deliveries in the queues or under way, of all destinations: what bounds Redis. */
export async function countAdmitted(db: Db): Promise<number> {
  const { rows } = await db.query<{ n: number }>({
    name: 'count_admitted',
    text: 'SELECT count(*)::int AS n FROM deliveries WHERE admitted',
    values: [],
  })
  return rows[0]?.n ?? 0
}

/**
 * Sends admitted deliveries that no lease was taken for back to waiting, in their old place in line: their destination
 * can't take them soon. What was leased, ended or admitted anew meanwhile stays as it is.
 */
export async function handBack(
  db: Db,
  admitted: ReadonlyArray<{ id: DeliveryId; generation: number }>,
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'hand_back',
    text: `WITH l AS MATERIALIZED (
        SELECT d.id FROM deliveries d JOIN unnest($1::text[], $2::int[]) AS j(id, generation) ON j.id = d.id AND j.generation = d.generation
        WHERE d.state = 'queued' ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'pending', admitted = false, wake_at = NULL, due_at = d.created_at FROM l WHERE d.id = l.id`,
    values: [admitted.map((one) => one.id), admitted.map((one) => one.generation)],
  })
  return rowCount ?? 0
}

/**
 * Ends what is over its maximum age behind a pause or a closed destination, where nothing is fed; at most `rowsMax`, of
 * the first as many of each destination's line. What stands further back is ended by the feed, when its turn comes.
 */
export async function expireHeld(db: Db, rowsMax: number): Promise<number> {
  const { rows } = await db.query<{ connection_id: ConnectionId; order_key: string | null }>({
    name: 'expire_held',
    text: `WITH over AS MATERIALIZED (
        SELECT x.id FROM destinations t, LATERAL (
          SELECT d.id, d.expires_at FROM deliveries d WHERE d.destination_id = t.id AND d.due_at IS NOT NULL AND NOT d.admitted
          ORDER BY d.due_at, d.seq LIMIT $1) x
        WHERE (t.paused OR t.closed_until > clock() OR EXISTS (SELECT 1 FROM connections c WHERE c.destination_id = t.id AND c.paused))
          AND x.expires_at <= clock()
        LIMIT $1),
      l AS MATERIALIZED (
        SELECT d.id FROM over JOIN deliveries d ON d.id = over.id WHERE d.due_at IS NOT NULL AND NOT d.admitted ORDER BY d.id FOR UPDATE OF d SKIP LOCKED)
      UPDATE deliveries d SET state = 'dead', dead_reason = 'expired', due_at = NULL, finished_at = clock() FROM l WHERE d.id = l.id
      RETURNING d.connection_id, d.order_key`,
    values: [rowsMax],
  })
  await unblock(db, orderKeysOf(rows))
  return rows.length
}

export interface OrderKey {
  connectionId: ConnectionId
  orderKey: string
}

/** The keys, each once, of rows that have one. */
export function orderKeysOf(
  rows: ReadonlyArray<{ connection_id: ConnectionId; order_key: string | null }>,
): OrderKey[] {
  const keys = new Map<string, OrderKey>()
  for (const { connection_id: connectionId, order_key: orderKey } of rows)
    if (orderKey !== null) keys.set(`${connectionId} ${orderKey}`, { connectionId, orderKey })
  return [...keys.values()]
}

/**
 * Lets the feed look again at whoever is next of each of these keys and was marked as blocked, unless one of the key is under
 * way: the first of all that are unfinished; where failing ones are skipped, the first that never failed and the first
 * that did. Returns the destinations that have something to feed now.
 */
export async function unblock(db: Db, keys: readonly OrderKey[]): Promise<DestinationId[]> {
  if (keys.length === 0) return []
  const { rows } = await db.query<{ destination_id: DestinationId }>({
    name: 'unblock',
    text: `WITH first AS (
        SELECT x.id, x.destination_id, k.connection, k.order_key FROM unnest($1::text[], $2::text[]) AS k(connection, order_key), LATERAL (
          SELECT d.id, d.destination_id, d.blocked FROM deliveries d
          WHERE d.connection_id = k.connection AND d.order_key = k.order_key AND d.order_key IS NOT NULL AND d.due_at IS NOT NULL
          ORDER BY d.seq LIMIT 1) x
        WHERE x.blocked
        UNION
        SELECT x.id, x.destination_id, k.connection, k.order_key FROM unnest($1::text[], $2::text[]) AS k(connection, order_key) JOIN connections c ON c.id = k.connection AND c.order_skip,
          (VALUES (true), (false)) AS f(failed), LATERAL (
          SELECT d.id, d.destination_id FROM deliveries d
          WHERE d.connection_id = k.connection AND d.order_key = k.order_key AND d.order_key IS NOT NULL AND d.due_at IS NOT NULL
            AND d.blocked AND (d.failures > 0) = f.failed
          ORDER BY d.seq LIMIT 1) x),
      next AS MATERIALIZED (
        SELECT first.id FROM first
        WHERE NOT EXISTS (SELECT 1 FROM deliveries a WHERE a.destination_id = first.destination_id AND a.admitted
                          AND a.connection_id = first.connection AND a.order_key = first.order_key)),
      l AS MATERIALIZED (SELECT d.id FROM next JOIN deliveries d ON d.id = next.id WHERE d.blocked ORDER BY d.id FOR UPDATE OF d)
      UPDATE deliveries d SET blocked = false FROM l WHERE d.id = l.id RETURNING d.destination_id`,
    values: [keys.map((key) => key.connectionId), keys.map((key) => key.orderKey)],
  })
  return [...new Set(rows.map((row) => row.destination_id))]
}

/**
 * Repairs what `unblock` missed, for the next `keysMax` order keys with unfinished deliveries after `after`. Returns the
 * last key it looked at, for the next call; null at the end.
 */
export async function unblockStuck(db: Db, after: OrderKey | null, keysMax: number): Promise<OrderKey | null> {
  const { rows } = await db.query<{ connection_id: ConnectionId; order_key: string }>({
    name: 'unblock_stuck',
    text: `WITH RECURSIVE key AS (
        (SELECT d.connection_id, d.order_key, 1 AS n FROM deliveries d
         WHERE d.order_key IS NOT NULL AND d.due_at IS NOT NULL AND (d.connection_id, d.order_key) > ($1, $2)
         ORDER BY d.connection_id, d.order_key LIMIT 1)
        UNION ALL
        SELECT x.connection_id, x.order_key, k.n + 1 FROM key k, LATERAL (
          SELECT d.connection_id, d.order_key FROM deliveries d
          WHERE d.order_key IS NOT NULL AND d.due_at IS NOT NULL AND (d.connection_id, d.order_key) > (k.connection_id, k.order_key)
          ORDER BY d.connection_id, d.order_key LIMIT 1) x
        WHERE k.n < $3)
      SELECT connection_id, order_key FROM key ORDER BY n`,
    values: [after?.connectionId ?? '', after?.orderKey ?? '', keysMax],
  })
  const keys = orderKeysOf(rows)
  await unblock(db, keys)
  return keys.length === keysMax ? (keys.at(-1) ?? null) : null
}
