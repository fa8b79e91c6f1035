import { until } from '../../support/poll.ts'

/** What comes because a rule is broken comes with the next feed, twice a second, or the next sweep. */
export const watchedMs = 2_500

/** Time for what must not happen, and does when the rule is broken. */
export async function may(happen: () => boolean | Promise<boolean>, timeoutMs = watchedMs): Promise<void> {
  await until(happen, { what: 'what must not happen', timeoutMs }).catch(() => {})
}
