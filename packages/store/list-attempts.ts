import type { DeliveryId } from '@tenterhook/schemas/ids'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { AttemptOutcome } from '@tenterhook/schemas/states'
import type { Db } from './connect.ts'
import { lowestIdAt } from '@tenterhook/schemas/ids'
import type { Page, PageRequest } from './page.ts'

/** One HTTP try, without what was answered: that is in `readAttempt`. */
export interface AttemptSummary {
  /** `<delivery>.<lease token>`: the row's key. The number isn't one (PROTOCOL §4). */
  id: string
  deliveryId: DeliveryId
  number: number
  destinationVersion: number
  startedAt: Date
  outcome: AttemptOutcome
  status: number | null
  code: string | null
  detail: string | null
  /** The address that was connected to. */
  address: string | null
  /** Milliseconds by phase: dns, connect, tls, firstByte, total. */
  timings: unknown
  responseBytes: number | null
  responseTruncated: boolean
}

export interface AttemptDetail extends AttemptSummary {
  responseHeaders: HeaderPairs | null
  responseBody: Buffer | null
}

interface Row {
  delivery_id: DeliveryId
  lease_token: string
  number: number
  destination_version: number
  started_at: Date
  outcome: AttemptOutcome
  status: number | null
  code: string | null
  detail: string | null
  address: string | null
  timings: string
  response_bytes: number | null
  response_truncated: boolean
}

const columns = `delivery_id, lease_token, number, destination_version, started_at, outcome, status, code, detail, address, timings,
  length(response_body) AS response_bytes, response_truncated`

/** The key of an attempt from its id; undefined when it is none. */
function keyOf(id: string): { deliveryId: string; token: string } | undefined {
  const match = /^(dlv_[0-9a-z]{26})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(id)
  return match?.[1] && match[2] ? { deliveryId: match[1], token: match[2] } : undefined
}

/** Whether a text can be an attempt's id, which is what a cursor of attempts holds too. */
export function isAttemptId(id: string): boolean {
  return keyOf(id) !== undefined
}

/**
 * Attempts: those of the newest delivery first, of each delivery the last attempt first. The table is kept in the
 * order of deliveries, so that only this order costs one page whatever the table's size.
 */
export async function listAttempts(
  db: Db,
  filter: { deliveryId?: DeliveryId | undefined },
  page: PageRequest,
): Promise<Page<AttemptSummary>> {
  const after = page.after === undefined ? undefined : keyOf(page.after)
  const { rows } = await db.query<Row>({
    text: `SELECT ${columns} FROM attempts
      WHERE delivery_id >= $1 AND delivery_id < $2 AND delivery_id <= coalesce($3, 'dlv_~') AND ($4::text IS NULL OR delivery_id = $4)
        AND ($3::text IS NULL OR delivery_id < $3 OR (number, lease_token) < (
          SELECT a.number, a.lease_token FROM attempts a WHERE a.delivery_id = $3 AND a.lease_token = $5::uuid))
      ORDER BY delivery_id DESC, number DESC, lease_token DESC LIMIT $6`,
    values: [
      page.sinceMs === undefined ? 'dlv_' : lowestIdAt('dlv', page.sinceMs),
      page.untilMs === undefined ? 'dlv_~' : lowestIdAt('dlv', page.untilMs),
      after?.deliveryId ?? null,
      filter.deliveryId ?? null,
      after?.token ?? null,
      page.limit + 1,
    ],
  })
  const shown = rows.slice(0, page.limit).map(toSummary)
  return { rows: shown, next: rows.length > page.limit ? (shown.at(-1)?.id ?? null) : null }
}

/** One attempt with what was answered. Undefined: there is none with this id. */
export async function readAttempt(db: Db, id: string): Promise<AttemptDetail | undefined> {
  const key = keyOf(id)
  if (!key) return undefined
  const { rows } = await db.query<Row & { response_headers: string | null; response_body: Buffer | null }>({
    name: 'attempt',
    text: `SELECT ${columns}, response_headers, response_body FROM attempts WHERE delivery_id = $1 AND lease_token = $2`,
    values: [key.deliveryId, key.token],
  })
  const row = rows[0]
  return (
    row && {
      ...toSummary(row),
      responseHeaders: row.response_headers === null ? null : (JSON.parse(row.response_headers) as HeaderPairs),
      responseBody: row.response_body,
    }
  )
}

function toSummary(row: Row): AttemptSummary {
  return {
    id: `${row.delivery_id}.${row.lease_token}`,
    deliveryId: row.delivery_id,
    number: row.number,
    destinationVersion: row.destination_version,
    startedAt: row.started_at,
    outcome: row.outcome,
    status: row.status,
    code: row.code,
    detail: row.detail,
    address: row.address,
    timings: JSON.parse(row.timings) as unknown,
    responseBytes: row.response_bytes,
    responseTruncated: row.response_truncated,
  }
}
