import type { CrashPoint } from '@tenterhook/schemas/probe'

/** The transactions of PROTOCOL §2; then of a new Redis epoch, of the mark of blocked rows, of what no socket is free for. */
export const transactionNames = [
  'T1',
  'T2',
  'T2s',
  'T3',
  'T4',
  'T5',
  'T6',
  'T7',
  'T8',
  'T9',
  'T10',
  'T11',
  'epoch',
  'unblock',
  'hand back',
] as const
export type TransactionName = (typeof transactionNames)[number]

/** Those of the product's named crash points that the model passes. */
const crashPoints = [
  'ingest.before_commit',
  'ingest.after_commit',
  'ingest.after_answer',
  'router.after_claim',
  'router.after_route',
  'router.after_feed',
  'dispatcher.after_lease',
  'dispatcher.after_send',
  'dispatcher.after_result',
  'dispatcher.after_feed',
] as const satisfies readonly CrashPoint[]

/** What a step can pass, so that a fault or a delay may wait for it: a crash point, a statement of a transaction. */
export const moments = [
  'anywhere',
  ...crashPoints,
  'dispatcher.before_send',
  'dispatcher.epoch_won',
  'operator.acknowledged',
  ...transactionNames,
] as const
export type Moment = (typeof moments)[number]
