import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { answer, delayed } from '../support/behaviours.ts'
import { loadConfig, startLoad } from '../support/load.ts'
import type { Load } from '../support/load.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'

const perSecond = 80
/** Past a lease and its margin, the longest wait that a killed process leaves behind. */
const waitsMs = 40_000
/** Attempts take a while, so that some are under way whenever the fault comes. */
const answerAfterMs = 150

let receiver: Receiver
let afterSeq = 0
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const services = ['ingest', 'router', 'dispatcher'] as const

describe('under load', () => {
  const stack = sharedStack(() => ({ config: loadConfig(receiver) }))
  beforeEach(async () => {
    await drained(stack().store)
    receiver.clear()
    receiver.on('*', delayed(answerAfterMs))
    afterSeq = await lastSeq(stack().store)
  })

  async function leased(): Promise<Set<string>> {
    const { rows } = await stack().store.durable.query<{ id: string }>(
      `SELECT id FROM deliveries WHERE state = 'leased'`,
    )
    return new Set(rows.map(({ id }) => id))
  }

  /** Senders send again what was not answered; then nothing may be missing, and nothing twice but what may be. */
  async function provesDrained(load: Load, mayRepeat: ReadonlySet<string>): Promise<void> {
    const sent = await load.stop()
    await load.resend()
    // Hints that died with a process: their rows need not wait ten seconds for them here. No living lease ends by this.
    await stack().shiftClock(12_000)
    await drained(stack().store)
    const tally = await checkInvariants(stack().store, {
      sent,
      received: receiver.received(),
      mayRepeat: (id) => mayRepeat.has(id),
      afterSeq,
    })
    expect(tally).toMatchObject({ events: sent.length, deliveries: 2 * sent.length })
  }

  it.each(services)(
    '%s killed with -9 and started again loses nothing, and sends again only what it had under way',
    { timeout: 60_000 },
    async (name) => {
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_200)
      await stack().service(name).kill('SIGKILL')
      const mayRepeat = name === 'dispatcher' ? await leased() : new Set<string>()
      await load.pass(800)
      if (name === 'dispatcher') expect(mayRepeat.size, 'attempts under way when it died').toBeGreaterThan(0)
      // Only the dead dispatcher's leases may run out here: the living one's attempts end first.
      if (name === 'dispatcher') await stack().shiftClock(waitsMs)
      await stack().service(name).start()
      await load.pass(800)
      await provesDrained(load, mayRepeat)
    },
  )

  it('all three killed with -9 at once lose nothing', { timeout: 60_000 }, async () => {
    const load = startLoad(stack(), { perSecond })
    await load.pass(1_200)
    await Promise.all(services.map((name) => stack().service(name).kill('SIGKILL')))
    const mayRepeat = await leased()
    await stack().shiftClock(waitsMs)
    await Promise.all(services.map((name) => stack().service(name).start()))
    await load.pass(500)
    await provesDrained(load, mayRepeat)
  })

  it.each(['router', 'dispatcher'] as const)(
    '%s told to stop finishes what it has, and nothing is sent twice',
    { timeout: 60_000 },
    async (name) => {
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_200)
      expect(await stack().service(name).kill('SIGTERM')).toEqual({ code: 0, signal: null })
      await load.pass(500)
      await stack().service(name).start()
      await load.pass(500)
      await load.stop()
      expect(Object.keys(load.tally())).toEqual(['200'])
      await provesDrained(load, new Set())
    },
  )
})

describe('two copies of each service under load', () => {
  const stack = sharedStack(() => ({
    services: ['ingest', 'ingest', 'router', 'router', 'dispatcher', 'dispatcher'],
    config: loadConfig(receiver),
    env: { TENTERHOOK_DRAIN_DELAY: '1s' },
  }))

  it(
    'are replaced, first one of each, then the other: no request fails, nothing is sent twice',
    { timeout: 60_000 },
    async () => {
      receiver.clear()
      receiver.on('*', delayed(answerAfterMs, answer()))
      const balancer = await startBalancer(['ingest', 'ingest2'].map((name) => stack().service(name)))
      const load = startLoad(stack(), { perSecond, origin: balancer.next })
      await load.pass(500)
      for (const copy of ['', '2']) {
        await Promise.all(
          services.map(async (name) => {
            const service = stack().service(`${name}${copy}`)
            expect(await service.kill('SIGTERM'), service.name).toEqual({ code: 0, signal: null })
            await service.start()
          }),
        )
        await load.pass(500)
      }
      const sent = await load.stop()
      balancer.stop()
      expect(load.tally()).toEqual({ 200: sent.length })
      await drained(stack().store)
      const tally = await checkInvariants(stack().store, { sent, received: receiver.received() })
      expect(tally).toEqual({ events: sent.length, deliveries: 2 * sent.length, requests: 2 * sent.length, repeats: 0 })
    },
  )
})

type Copy = { url: string; ops(path: string): Promise<{ status: number }> }

/** What stands in front of copies: sends to each in turn whose readiness was green when it last looked. */
async function startBalancer(copies: readonly Copy[]): Promise<{ next: () => string; stop: () => void }> {
  let ready: readonly Copy[] = copies
  let turn = 0
  const look = async () => {
    const seen = await Promise.all(
      copies.map(async (copy) =>
        (await copy.ops('/readyz').catch(() => ({ status: 0 }))).status === 200 ? copy : undefined,
      ),
    )
    ready = seen.filter((copy) => copy !== undefined)
  }
  await look()
  const timer = setInterval(() => void look(), 100)
  return {
    next() {
      const copy = ready[turn++ % Math.max(1, ready.length)]
      if (copy === undefined) throw new Error('no copy is ready')
      return copy.url
    },
    stop: () => clearInterval(timer),
  }
}
