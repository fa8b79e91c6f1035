import type { FaultKind } from './faults.ts'
import type { Process } from './process.ts'

/** What senders, destinations and operators saw, and what an all-knowing witness knows: the checks judge by this, the model never reads it. */
export interface History {
  readonly calls: Call[]
  readonly sends: Send[]
  /** By lease token. */
  readonly attempts: Map<string, Attempt>
  /** By place: the turns of ordered connections. */
  readonly turns: Map<string, Turn>
  /** Deliveries whose cancelling, and whose replay, was acknowledged. */
  readonly cancelled: Set<string>
  readonly replayed: Set<string>
  /** The number of the last transaction that may still lease for a destination whose pausing was acknowledged. */
  readonly pausedAt: Map<string, number>
  readonly struck: Map<FaultKind, number>
  /** How often a situation came up that a run should be able to reach. */
  readonly seen: Map<Situation, number>
  see(situation: Situation): void
}

/** One HTTP request of a sender. */
export interface Call {
  readonly name: string
  readonly key: string | null
  readonly orderKey: string
  readonly unstorable: boolean
  readonly arrivedAt: number
  answer: CallAnswer | undefined
}

export type CallAnswer =
  /** 2xx, with the id of the event or, for a duplicate, of the first one. */
  | { kind: 'accepted'; event: string }
  | { kind: 'duplicate'; event: string }
  | { kind: 'refused' }
  /** 503, or no answer at all. */
  | { kind: 'unavailable' }

/** A request that reached a destination, and its answer. */
export interface Send {
  readonly process: Process
  readonly life: number
  readonly delivery: string
  readonly place: string
  readonly generation: number
  readonly ok: boolean
  readonly token: string
  /** The dispatcher knows that its result is recorded. */
  isSettled: boolean
}

/** A lease in a dispatcher's hands. */
export interface Attempt {
  readonly process: Process
  readonly life: number
  readonly delivery: string
  readonly place: string
  readonly event: string
  readonly ordered: boolean
  readonly token: string
  readonly generation: number
  /** By the dispatcher's own clock: never later than Postgres's. */
  readonly leaseEndsMs: number
  /** When it found enough time left to send. */
  checkedAtMs: number | undefined
  /** A Postgres crash took the lease back. */
  leaseLost: boolean
}

/** The place of a delivery in the order of acceptance, in steps. */
export interface Turn {
  /** Null: a replay. */
  readonly event: string | null
  readonly place: string
  readonly connection: string
  readonly orderKey: string
  readonly arrivedAt: number
  /** When 2xx was answered. */
  answeredAt: number | undefined
  sent: boolean
}

export const situations = [
  'requests folded in a batch',
  'batch bisected',
  'duplicate answered',
  'event routed by the sweep',
  'admitted as it was routed',
  'left waiting as it was routed',
  'destination skipped: another feeder holds it',
  'held back by its order',
  'queued delivery leased by the sweep',
  'job refused',
  'lease refused: destination closed',
  'blocked mark repaired',
  'handed back',
  'lease swept',
  'lease given back unsent',
  'sent past the lease',
  'late success',
  'late success beside a living lease',
  'stale failure',
  'result recorded twice',
  'new Redis epoch',
  'add swallowed',
  'delivered',
  'dead',
  'cancelled',
] as const
export type Situation = (typeof situations)[number]

export function createHistory(): History {
  const seen = new Map<Situation, number>()
  return {
    calls: [],
    sends: [],
    attempts: new Map(),
    turns: new Map(),
    cancelled: new Set(),
    replayed: new Set(),
    pausedAt: new Map(),
    struck: new Map(),
    seen,
    see: (situation) => void seen.set(situation, (seen.get(situation) ?? 0) + 1),
  }
}

export const isAccepted = (call: Call) => call.answer?.kind === 'accepted' || call.answer?.kind === 'duplicate'

/** a's 2xx was sent before b's request arrived (PROTOCOL §5). */
export const isBefore = (a: Turn, b: Turn) =>
  a.connection === b.connection && a.orderKey === b.orderKey && a.answeredAt !== undefined && a.answeredAt < b.arrivedAt
