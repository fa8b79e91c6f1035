import type { Watchdog } from '@tenterhook/lifecycle/watchdog'
import type { Db } from '@tenterhook/store/connect'
import { lease, type Leased } from '@tenterhook/store/lease'
import { recordResults, releaseLeases, type AttemptResult } from '@tenterhook/store/results'

/** The transactions by which a dispatcher gets on, each telling the watchdog what it says of that. */
export function watchedTransactions(db: Db, watchdog: Pick<Watchdog, 'progressed' | 'began' | 'ended'>) {
  return {
    lease: async (wanted: Parameters<typeof lease>[1]) => {
      const answer = await lease(db, wanted)
      for (const one of answer.leased) watchdog.began(one.token, one.leaseMs)
      return answer
    },
    record: async (results: readonly AttemptResult[]) => {
      const recorded = await recordResults(db, results)
      for (const one of results) watchdog.ended(one.token)
      watchdog.progressed('recorded')
      return recorded
    },
    release: async (leased: Leased, delayMs: number) => {
      const released = await releaseLeases(db, [leased], delayMs)
      watchdog.ended(leased.token)
      return released
    },
  }
}
