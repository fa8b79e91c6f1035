/** What a round left behind, as plain data: two journals, the tables and the faults. The checks read nothing else. */
import { readFile } from 'node:fs/promises'
import type { Store } from '@tenterhook/store/connect'
import { readJournal } from './journal.ts'
import type { FaultKind } from './plan.ts'
import type { HealthyName, Sickness, SourceName } from './topology.ts'

/** Lines of the sender's journal: an event when it is first sent, then each answer to it. */
export type SendLine =
  | {
      key: string
      source: SourceName
      wants: HealthyName[]
      sick: Sickness | null
      sha256: string
      trace: string
      group: string
      at: number
    }
  | { key: string; status: number | 'broken'; id: string | null; at: number; code: string | null }

/** Lines of the destinations' journal: a request once its body has come, and what became of its answer if it was late. */
export type ArrivalLine =
  | {
      n: number
      destination: string
      delivery: string
      key: string | null
      sha256: string
      /** Null where none is asked for. */
      signed: boolean | null
      trace: string | null
      at: number
    }
  /** The answer was not taken within the attempt's time, or the connection had gone. */
  | { n: number; unanswered: true }

export type Answer = { status: number | 'broken'; id: string | null; at: number; code: string | null }
export type Sent = Extract<SendLine, { source: SourceName }> & { answers: Answer[] }
export type Arrival = Extract<ArrivalLine, { destination: string }> & { answered: boolean }

export type EventRow = { id: string; seq: number; key: string | null; sha256: string; state: string; due: boolean }
export type DeliveryRow = {
  id: string
  event: string
  connection: string
  destination: string
  state: string
  due: boolean
  deadReason: string | null
}

export type FaultRan = {
  kind: FaultKind
  /** `dispatcher2`, `postgres`, `ingest → redis`. */
  target: string
  startMs: number
  /** When the hurting ended. */
  healMs: number
  /** When what it had hurt was there again: the server took connections. The same as `healMs` for others. */
  endMs: number
}

/** What was seen at one moment. */
export type Sample = {
  rssMb: Record<string, number>
  redisKeys: number | null
  redisMb: number | null
  admitted: number | null
}

export type Evidence = {
  sent: Sent[]
  arrivals: Arrival[]
  events: EventRow[]
  deliveries: DeliveryRow[]
  faults: FaultRan[]
  samples: Sample[]
  /** Postgres's own words on processes of its own that ended as nobody had asked for. */
  crashes: string[]
  /** Services that ended by themselves: `router2 (exit 1)`. One that can't start without Postgres does. */
  deaths: readonly string[]
  /** Null when it never drained. */
  drainedMs: number | null
}

export async function readSent(path: string): Promise<Sent[]> {
  const byKey = new Map<string, Sent>()
  for (const line of await readJournal<SendLine>(path)) {
    if ('source' in line) byKey.set(line.key, { ...line, answers: [] })
    else byKey.get(line.key)?.answers.push(line)
  }
  return [...byKey.values()]
}

export async function readArrivals(path: string): Promise<Arrival[]> {
  const arrivals: Arrival[] = []
  for (const line of await readJournal<ArrivalLine>(path)) {
    if ('destination' in line) arrivals[line.n] = { ...line, answered: true }
    else {
      const late = arrivals[line.n]
      if (late !== undefined) late.answered = false
    }
  }
  return arrivals
}

/** A backend that our SQL brings down, which takes all the others with it. */
export async function readCrashes(postgresLogPath: string): Promise<string[]> {
  return crashesIn(await readFile(postgresLogPath, 'utf8'))
}

/** Those that the plan kills die of signal 9; where the disk is full, Postgres gives up by itself (PANIC, then signal 6). */
export function crashesIn(postgresLog: string): string[] {
  let panicked = false
  return postgresLog.split('\n').filter((line) => {
    if (/PANIC: .*No space left on device/.test(line)) panicked = true
    const signal = /terminated by signal (\d+)/.exec(line)?.[1]
    if (signal === undefined || signal === '9') return false
    const gaveUp = signal === '6' && panicked
    if (gaveUp) panicked = false
    return !gaveUp
  })
}

export async function readTables({ durable }: Store): Promise<Pick<Evidence, 'events' | 'deliveries'>> {
  const { rows: events } = await durable.query<EventRow>(
    `SELECT e.id, e.seq::float8 AS seq, convert_from(t.body, 'UTF8')::json->>'key' AS key,
       encode(sha256(t.body), 'hex') AS sha256, e.state, e.due_at IS NOT NULL AS due
     FROM events e LEFT JOIN event_content t ON t.event_id = e.id`,
  )
  const { rows: deliveries } = await durable.query<DeliveryRow>(
    `SELECT d.id, d.event_id AS event, c.name AS connection, t.name AS destination, d.state,
       d.due_at IS NOT NULL AND (NOT d.admitted OR d.wake_at IS NOT NULL) AS due, d.dead_reason AS "deadReason"
     FROM deliveries d JOIN connections c ON c.id = d.connection_id JOIN destinations t ON t.id = d.destination_id`,
  )
  return { events, deliveries }
}
