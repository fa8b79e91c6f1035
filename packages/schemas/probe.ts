/**
 * Named places in the protocol where a process may die. Production passes `noProbe`; a test's own entry passes one
 * that kills the process at `point:n`. There is no switch for it in production code.
 */
export const crashPoints = [
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
] as const
export type CrashPoint = (typeof crashPoints)[number]
export type Probe = (point: CrashPoint) => void
export const noProbe: Probe = () => {}
