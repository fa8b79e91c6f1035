/** The rows of the model: of each table the columns that the protocol decides by (PROTOCOL §1). Rows are immutable; a change writes a new one. */

export interface EventRow {
  readonly id: string
  /** The HTTP request that brought it. */
  readonly call: string
  readonly seq: number
  readonly orderKey: string
  readonly state: 'accepted' | 'routed'
  readonly dueAtMs: number | null
}

export interface DeliveryRow {
  readonly id: string
  readonly event: string
  readonly connection: string
  readonly destination: string
  readonly seq: number
  readonly isReplay: boolean
  readonly orderKey: string | null
  /** Waits behind an earlier one of its key: not looked at by T3. */
  readonly blocked: boolean
  /** `held` only under the control that stores it. */
  readonly state: 'pending' | 'queued' | 'leased' | 'retrying' | 'delivered' | 'dead' | 'cancelled' | 'held'
  /** The wake-up; null when terminal. */
  readonly dueAtMs: number | null
  readonly generation: number
  readonly attempt: number
  readonly failures: number
  readonly lostLeases: number
  readonly token: string | null
  readonly cancelRequested: boolean
  readonly succeeded: boolean
}

export interface DestinationRow {
  readonly id: string
  readonly window: number
  readonly paused: boolean
  readonly closedUntilMs: number
}

export interface AttemptRow {
  readonly delivery: string
  readonly token: string
  /** False also when a crash had taken the delivery's row back: nothing was there that a success could end. */
  readonly succeeded: boolean
}

export interface EpochRow {
  readonly runId: number
  readonly key: number
}

/** What may reach a destination once: an event over a connection, or a replay of it. Its id is derived from it. */
export const placeOf = (row: DeliveryRow) => (row.isReplay ? row.id : `${row.event}>${row.connection}`)

const terminalStates: readonly DeliveryRow['state'][] = ['delivered', 'dead', 'cancelled']

export const isTerminal = (row: DeliveryRow) => terminalStates.includes(row.state)
export const isAdmitted = (row: DeliveryRow) => row.state === 'queued' || row.state === 'leased'
export const isWaiting = (row: DeliveryRow) => row.state === 'pending' || row.state === 'retrying'

export const newDelivery = {
  isReplay: false,
  blocked: false,
  state: 'pending',
  generation: 0,
  attempt: 0,
  failures: 0,
  lostLeases: 0,
  token: null,
  cancelRequested: false,
  succeeded: false,
} as const
