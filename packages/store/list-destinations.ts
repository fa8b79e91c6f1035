import type { DestinationId } from '@tenterhook/schemas/ids'
import type { Lane } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { byNameOrId, type ConfigFilter } from './config-filter.ts'
import { breakerState, type BreakerState } from './health.ts'
import { readPage, scanRowsMax, type Page, type PageRequest } from './page.ts'
import { secretNames } from './secret-names.ts'
import { openSecret, type EncryptionKeys } from './secrets.ts'

/** A destination as it may be shown, with the state that the protocol reads. */
export interface DestinationView {
  id: DestinationId
  name: string
  version: number
  managedBy: string
  /** Without its secrets. */
  spec: unknown
  /** Which secrets are set. */
  secretsSet: string[]
  paused: boolean
  pauseReason: string | null
  health: DestinationHealth
  createdAt: Date
  updatedAt: Date
  deletedAt: Date | null
}

export interface DestinationHealth {
  state: BreakerState
  /** Set while the breaker is open: nothing is sent to it before. */
  waitsUntil: Date | null
  /** Of the failures since its last success: the first, and how many. */
  failingSince: Date | null
  failuresInRow: number
  /** Set while its attempts take so long that it would keep others waiting. */
  slowUntil: Date | null
  /** Where its deliveries run now; those that failed before run in `retry` while it is `normal`. */
  lane: Exclude<Lane, 'retry'>
  /** Deliveries admitted at once, at most; and now. */
  window: number
  admitted: number
  /** Deliveries that are not admitted. Of a long backlog no more is counted than a page may look at. */
  waiting: number
  /** There are more than that. */
  moreWaiting: boolean
}

/** Of one destination, where the page has few. */
const waitingCountMax = 1_000

interface Row {
  id: DestinationId
  name: string
  version: number
  managed_by: string
  spec: unknown
  secrets: string | null
  paused: boolean
  pause_reason: string | null
  breaker_state: BreakerState
  closed_until: Date | null
  failing_since: Date | null
  failures_in_row: number
  slow_until: Date | null
  quarantined: boolean
  win: number
  admitted: number
  waiting: number
  created_at: Date
  updated_at: Date
  deleted_at: Date | null
}

/** Destinations, newest first; deleted ones only by id. */
export async function listDestinations(
  db: Db,
  filter: ConfigFilter,
  page: PageRequest,
  keys: EncryptionKeys,
): Promise<Page<DestinationView>> {
  const countMax = Math.min(waitingCountMax, Math.floor(scanRowsMax / page.limit))
  const { rows, next } = await readPage<Row>(db, page, {
    prefix: 'dst',
    table: 'destinations',
    columns: `id, name, version, managed_by, spec, secrets, paused, pause_reason, created_at, updated_at, deleted_at,
      failing_since, failures_in_row, feed_window(destinations) AS win, is_quarantined(destinations) AS quarantined, ${breakerState} AS breaker_state,
      CASE WHEN closed_until > clock() THEN closed_until END AS closed_until, CASE WHEN slow_until > clock() THEN slow_until END AS slow_until`,
    narrow: byNameOrId(filter),
    show: `hit.*,
      (SELECT count(*)::int FROM deliveries d WHERE d.destination_id = hit.id AND d.admitted) AS admitted,
      (SELECT count(*)::int FROM (SELECT 1 FROM deliveries d WHERE d.destination_id = hit.id AND d.due_at IS NOT NULL AND NOT d.admitted
        LIMIT ${countMax + 1}) w) AS waiting`,
  })
  return { rows: rows.map((row) => toView(row, keys, countMax)), next }
}

function toView(row: Row, keys: EncryptionKeys, countMax: number): DestinationView {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    managedBy: row.managed_by,
    spec: row.spec,
    secretsSet: row.secrets === null ? [] : secretNames(openSecret(keys, row.id, row.secrets)),
    paused: row.paused,
    pauseReason: row.pause_reason,
    health: {
      state: row.breaker_state,
      waitsUntil: row.closed_until,
      failingSince: row.failing_since,
      failuresInRow: row.failures_in_row,
      slowUntil: row.slow_until,
      lane: row.quarantined ? 'quarantine' : 'normal',
      window: row.win,
      admitted: row.admitted,
      waiting: Math.min(row.waiting, countMax),
      moreWaiting: row.waiting > countMax,
    },
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deletedAt: row.deleted_at,
  }
}
