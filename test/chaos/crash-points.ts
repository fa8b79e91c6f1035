import { crashPoints } from '@tenterhook/schemas/probe'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig, startLoad } from '../support/load.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'
import type { Stack } from '../support/stack.ts'
import { hits } from './crash-probe.ts'
import { checkInvariants, lastSeq } from './invariants.ts'

const perSecond = 50
/** Past the longest wait that a process which died leaves behind: a lease of 15 s and its margin. */
const waitsMs = 40_000

/**
 * Kills a service at each of its named points, in its first, second or third turn there, under load, and starts it again.
 * `redis: 'never'` does so on the sweepers' way, where rows are found by their time alone.
 */
export function provesCrashPoints({
  service,
  turns = hits,
  redis,
}: {
  service: 'ingest' | 'router' | 'dispatcher'
  turns?: readonly number[]
  redis: 'running' | 'never'
}): void {
  let receiver: Receiver
  beforeAll(async () => {
    receiver = await startReceiver()
  })
  afterAll(() => receiver.stop())
  const stack = sharedStack(() => ({ config: loadConfig(receiver), redis }))

  describe.each(crashPoints.filter((point) => point.startsWith(`${service}.`)))('killed at %s', (point) => {
    it.each(turns)(
      'in turn %d, nothing accepted is lost, and nothing is sent twice but what was under way',
      async (hit) => {
        receiver.clear()
        const { store } = stack()
        const process = stack().service(service)
        const afterSeq = await lastSeq(store)
        await process.kill('SIGTERM')
        await process.start({
          entry: `test/chaos/entry-${service}.ts`,
          env: { TENTERHOOK_TEST_CRASH_AT: `${point}:${hit}` },
        })

        const load = startLoad(stack(), { perSecond })
        const { signal } = await process.exited()
        expect(signal, 'how it ended').toBe('SIGKILL')
        // The senders and the other services go on without it for a moment.
        await load.pass(250)
        const sent = await load.stop()
        const underWay = await leasedIds(stack(), service)

        await stack().shiftClock(waitsMs)
        await process.start()
        await load.resend()
        await drained(store)
        const tally = await checkInvariants(store, {
          sent,
          received: receiver.received(),
          mayRepeat: (id) => underWay.has(id),
          afterSeq,
        })
        expect(tally.events).toBe(sent.length)
        expect(tally.repeats).toBeLessThanOrEqual(underWay.size)
      },
    )
  })
}

/** The leases of a dispatcher that died; those of a living one are waited for, or shifting the clock would end them. */
async function leasedIds({ store }: Stack, died: string): Promise<Set<string>> {
  const read = async () => {
    const { rows } = await store.durable.query<{ id: string }>(`SELECT id FROM deliveries WHERE state = 'leased'`)
    return rows.map((row) => row.id)
  }
  if (died !== 'dispatcher')
    await until(async () => (await read()).length === 0, { what: 'the attempts under way to end' })
  return new Set(await read())
}
