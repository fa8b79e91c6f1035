import {
  lowestIdAt,
  timeOfId,
  type ConnectionId,
  type DeliveryId,
  type DestinationId,
  type EventId,
  type SourceId,
} from '@tenterhook/schemas/ids'
import type { DeadReason, DeliveryState } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { readPage, when, type Condition, type Page, type PageRequest } from './page.ts'

/** Why an unfinished delivery waits although it may be due: its destination's or connection's state, never its own (PROTOCOL §1). */
export type HeldBy =
  | { kind: 'destination_paused' | 'connection_paused'; reason: string | null }
  /** Its destination failed on and on, or asked to be left alone for a while. */
  | { kind: 'breaker_open'; until: Date }

export interface DeliverySummary {
  id: DeliveryId
  eventId: EventId
  source: { id: SourceId; name: string | null }
  connection: { id: ConnectionId; name: string | null; version: number }
  destination: { id: DestinationId; name: string | null }
  seq: number
  orderKey: string | null
  state: DeliveryState
  heldBy: HeldBy | null
  /** An earlier one of its order key had not ended when the feed last looked. */
  behindEarlier: boolean
  /** Not before this, or when the sweep looks after it; null when finished. */
  dueAt: Date | null
  attempts: number
  failures: number
  lostLeases: number
  cancelRequested: boolean
  expiresAt: Date
  /** The event, when an operator's replay made this delivery. */
  replayOf: EventId | null
  deadReason: DeadReason | null
  traceparent: string | null
  createdAt: Date
  finishedAt: Date | null
}

export interface DeliveryFilter {
  ids?: readonly string[] | undefined
  connectionIds?: readonly string[] | undefined
  destinationIds?: readonly string[] | undefined
  state?: DeliveryState | 'held' | undefined
}

interface Row {
  id: DeliveryId
  event_id: EventId
  source_id: SourceId
  source_name: string | null
  connection_id: ConnectionId
  connection_name: string | null
  connection_version: number
  destination_id: DestinationId
  destination_name: string | null
  seq: string
  order_key: string | null
  state: DeliveryState
  held_by: HeldBy['kind'] | null
  pause_reason: string | null
  behind_earlier: boolean
  closed_until: Date
  wake_up: Date | null
  attempt: number
  failures: number
  lost_leases: number
  cancel_requested: boolean
  expires_at: Date
  replay_of: EventId | null
  dead_reason: DeadReason | null
  traceparent: string | null
  created_at: Date
  finished_at: Date | null
}

/** A leased delivery is not held: its attempt is under way. */
const mayBeHeld = `due_at IS NOT NULL AND state <> 'leased'`

/** Deliveries, newest first by the time of their event, or of their replay. */
export async function listDeliveries(
  db: Db,
  filter: DeliveryFilter,
  page: PageRequest,
): Promise<Page<DeliverySummary>> {
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'dlv',
    table: 'deliveries',
    columns: `id, event_id, source_id, connection_id, connection_version, destination_id, seq, order_key, state, due_at,
      due_at IS NOT NULL AND blocked AS behind_earlier, coalesce(wake_at, due_at) AS wake_up, attempt, failures, lost_leases, cancel_requested, expires_at, replay_of, dead_reason,
      traceparent, created_at, finished_at`,
    narrow: [
      ...when(filter.ids, 'id = ANY(?::text[])'),
      // The words of the partial index deliveries_dead, so that dead letters are found without scanning.
      ...(filter.state === 'dead' ? [{ sql: 'dead_reason IS NOT NULL' }] : []),
    ],
    conditions: [
      ...when(filter.connectionIds, 'connection_id = ANY(?::text[])'),
      ...when(filter.destinationIds, 'destination_id = ANY(?::text[])'),
      ...conditionsOf(filter.state),
    ],
    show: `hit.*, s.name AS source_name, n.name AS connection_name, t.name AS destination_name, t.closed_until,
      CASE WHEN t.paused THEN t.pause_reason ELSE n.pause_reason END AS pause_reason,
      CASE WHEN ${mayBeHeld} AND t.deleted_at IS NULL THEN CASE
        WHEN t.paused THEN 'destination_paused' WHEN n.paused THEN 'connection_paused' WHEN t.closed_until > clock() THEN 'breaker_open' END END AS held_by`,
    joins: `LEFT JOIN sources s ON s.id = hit.source_id LEFT JOIN connections n ON n.id = hit.connection_id
      LEFT JOIN destinations t ON t.id = hit.destination_id`,
  })
  return { rows: rows.map(toSummary), next }
}

function conditionsOf(state: DeliveryFilter['state']): Condition[] {
  if (state === undefined || state === 'dead') return []
  if (state !== 'held') return when(state, 'state = ?')
  return [
    {
      sql: `${mayBeHeld} AND destination_id IN (SELECT t.id FROM destinations t WHERE t.deleted_at IS NULL) AND (
        destination_id IN (SELECT t.id FROM destinations t WHERE t.paused OR t.closed_until > clock())
        OR connection_id IN (SELECT n.id FROM connections n WHERE n.paused))`,
    },
  ]
}

function toSummary(row: Row): DeliverySummary {
  return {
    id: row.id,
    eventId: row.event_id,
    source: { id: row.source_id, name: row.source_name },
    connection: { id: row.connection_id, name: row.connection_name, version: row.connection_version },
    destination: { id: row.destination_id, name: row.destination_name },
    seq: Number(row.seq),
    orderKey: row.order_key,
    state: row.state,
    heldBy: heldBy(row),
    behindEarlier: row.behind_earlier,
    dueAt: row.wake_up,
    attempts: row.attempt,
    failures: row.failures,
    lostLeases: row.lost_leases,
    cancelRequested: row.cancel_requested,
    expiresAt: row.expires_at,
    replayOf: row.replay_of,
    deadReason: row.dead_reason,
    traceparent: row.traceparent,
    createdAt: row.created_at,
    finishedAt: row.finished_at,
  }
}

function heldBy({ held_by: kind, pause_reason: reason, closed_until: until }: Row): HeldBy | null {
  if (kind === null) return null
  return kind === 'breaker_open' ? { kind, until } : { kind, reason }
}

/** Deliveries of one event that a list shows at most; its connections and replays seldom make ten. */
const deliveriesPerEventMax = 5_000

/**
 * The ids of an event's deliveries, replays among them. No index leads from an event to its deliveries: those that
 * routing made bear its time in their ids, the others are kept with the replays.
 */
export async function deliveryIdsOf(db: Db, eventId: EventId): Promise<DeliveryId[]> {
  const madeMs = timeOfId(eventId)
  const { rows } = await db.query<{ id: DeliveryId }>({
    name: 'deliveries_of_event',
    text: `(SELECT id FROM deliveries WHERE id >= $2 AND id < $3 AND event_id = $1 LIMIT $4)
      UNION (SELECT unnest(delivery_ids) FROM replays WHERE target_id = $1 AND kind = 'replay' LIMIT $4)`,
    values: [eventId, lowestIdAt('dlv', madeMs), lowestIdAt('dlv', madeMs + 1), deliveriesPerEventMax],
  })
  return rows.map((row) => row.id)
}
