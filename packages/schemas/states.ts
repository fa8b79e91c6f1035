/** The states of an event and of a delivery: PROTOCOL §1. `held` is shown, never stored. */
export const eventStates = ['accepted', 'routed', 'unroutable'] as const
export type EventState = (typeof eventStates)[number]

export const deliveryStates = ['pending', 'queued', 'leased', 'retrying', 'delivered', 'dead', 'cancelled'] as const
export type DeliveryState = (typeof deliveryStates)[number]

/**
 * Where a delivery runs once it is admitted, each lane with sockets of its own: `quarantine` when its destination is slow
 * or failing, else `retry` when it has failed before.
 */
export const lanes = ['normal', 'retry', 'quarantine'] as const
export type Lane = (typeof lanes)[number]

/** Why a delivery is a dead letter. */
export const deadReasons = [
  'retries_used_up',
  'expired',
  'cannot_succeed',
  'gone',
  'leases_lost',
  'destination_deleted',
] as const
export type DeadReason = (typeof deadReasons)[number]

/** What one HTTP try came to: SendOutcome's kinds as the attempt row keeps them. */
export const attemptOutcomes = ['delivered', 'rejected', 'unreachable', 'blocked'] as const
export type AttemptOutcome = (typeof attemptOutcomes)[number]
