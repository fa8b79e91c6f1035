import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { soleHeader } from '@tenterhook/schemas/headers'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import type { Tally } from '../chaos/invariants.ts'
import { delayed } from '../support/behaviours.ts'
import { loadConfig, loadSource, startLoad } from '../support/load.ts'
import type { Load } from '../support/load.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startFaultProxy } from '../support/proxy.ts'
import type { FaultProxy } from '../support/proxy.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'
import type { Stack } from '../support/stack.ts'

const perSecond = 60
/** What asynchronous commits may lose (PROTOCOL §5: three times wal_writer_delay), and a slow disk. */
const lostTailMs = 2_000

let receiver: Receiver
let afterSeq = 0
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

/** What a fault of Postgres must leave true: 2xx and 503 alone, all of it delivered in the end, repeats only from the tail. */
async function provesRecovery(
  stack: Stack,
  load: Load,
  { crashedAtMs }: { crashedAtMs?: number } = {},
): Promise<Tally> {
  const sent = await load.stop()
  expect(
    sent
      .flatMap(({ answers }) => answers)
      .filter((answer) => answer === 'broken' || (answer.status !== 200 && answer.status !== 503)),
  ).toEqual([])
  await load.resend()
  // Hints may be lost; what is queued without one need not wait its ten seconds here. No living lease ends by this.
  await stack.shiftClock(12_000)
  // What was leased when Postgres fell is leased still: nobody waits a lease's half minute here.
  await until(
    async () => {
      const { rows } = await stack.store.durable.query<{ left: number }>(
        `SELECT count(*)::int AS left FROM deliveries WHERE state IN ('pending', 'queued', 'retrying')`,
      )
      return rows[0]?.left === 0
    },
    { what: 'everything that waits to be sent', timeoutMs: 20_000 },
  )
  // A result that is not recorded yet would find its lease ended by the shift, and its delivery sent again.
  await until(async () => (await metricOf(stack.service('dispatcher'), 'tenterhook_deliveries_in_flight')) === 0, {
    what: 'the attempts under way to be recorded',
  })
  await stack.shiftClock(40_000)
  await drained(stack.store)
  const tally = await checkInvariants(stack.store, {
    sent,
    received: receiver.received(),
    afterSeq,
    mayRepeat: (_id, requests) =>
      crashedAtMs !== undefined && Math.abs(crashedAtMs - (requests[0]?.at ?? 0)) < lostTailMs,
  })
  expect(tally.events).toBe(sent.length)
  return tally
}

describe('a Postgres of the stack’s own', () => {
  const stack = sharedStack(() => ({ config: loadConfig(receiver), postgres: 'own' }))
  beforeEach(async () => {
    await drained(stack().store)
    receiver.clear()
    afterSeq = await lastSeq(stack().store)
  })

  it(
    'that is stopped at once and started again is answered for by 503s, and everything recovers by itself',
    { timeout: 90_000 },
    async () => {
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_500)
      const crashedAtMs = Date.now()
      await stack().postgres.stopAtOnce()
      await load.pass(1_000)
      const refused = await send(stack(), loadSource, { headers: [['X-GitHub-Event', 'push']], body: '{}' })
      expect(refused.status).toBe(503)
      expect(Number(soleHeader(refused.headers, 'retry-after'))).toBeGreaterThan(0)
      await load.pass(1_000)
      await stack().postgres.start()
      await load.pass(2_000)
      await load.stop()
      expect(load.tally()['503']).toBeGreaterThan(perSecond)
      // The last second was answered by a Postgres that was back.
      expect(
        load.sent
          .slice(-perSecond / 2)
          .flatMap(({ answers }) => answers)
          .filter((answer) => answer === 'broken' || answer.status !== 200),
      ).toEqual([])
      const tally = await provesRecovery(stack(), load, { crashedAtMs })
      expect(tally.repeats).toBeLessThan((2 * perSecond * lostTailMs) / 1_000)
    },
  )

  it.each(['tenterhook-ingest', 'tenterhook-router', 'tenterhook-dispatcher'])(
    'one backend of which, of %s, is killed with -9 restarts whole, and everything recovers by itself',
    { timeout: 60_000 },
    async (name) => {
      const load = startLoad(stack(), { perSecond })
      await load.pass(1_000)
      const { rows } = await stack().store.durable.query<{ pid: number }>(
        'SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY query_start DESC LIMIT 1',
        [name],
      )
      const crashedAtMs = Date.now()
      process.kill(rows[0]?.pid ?? Number.NaN, 'SIGKILL')
      await load.pass(1_500)
      await provesRecovery(stack(), load, { crashedAtMs })
    },
  )
})

describe('a network to Postgres', () => {
  let proxy: FaultProxy
  const stack = sharedStack(() => ({
    config: loadConfig(receiver),
    databaseUrl: async (url) => {
      const target = new URL(url)
      proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) })
      target.port = String(proxy.port)
      return target.href
    },
  }))
  afterAll(() => proxy.stop())
  beforeEach(async () => {
    await drained(stack().store)
    receiver.clear()
    afterSeq = await lastSeq(stack().store)
  })

  it('that loses the reply to a commit makes a 503 of it; sent again, it is the same event', async () => {
    const headers = [
      ['X-GitHub-Event', 'push'],
      ['X-GitHub-Delivery', 'unsure'],
    ] as const
    // The name of the statement that commits, as its Bind says it.
    const cut = proxy.cutAfter(Buffer.from('accept\0'))
    const unsure = await send(stack(), loadSource, { headers, body: '{"n":1}' })
    expect(cut.count()).toBe(1)
    expect(unsure).toMatchObject({ status: 503, json: { code: 'commit_failed' } })
    const again = await until(
      async () => {
        const answer = await send(stack(), loadSource, { headers, body: '{"n":1}' })
        return answer.status === 200 && answer
      },
      { what: 'it to be accepted' },
    )
    expect(again.json['duplicate']).toBe(true)
    await drained(stack().store)
    const { rows } = await stack().store.durable.query<{ id: string }>('SELECT id FROM events WHERE seq > $1', [
      afterSeq,
    ])
    expect(rows).toEqual([{ id: again.json['id'] }])
    expect(receiver.count('/plain')).toBe(1)
  })

  it('that cuts every connection, again and again, costs no event', { timeout: 60_000 }, async () => {
    const load = startLoad(stack(), { perSecond })
    for (let n = 0; n < 6; n++) {
      await load.pass(400)
      proxy.reset()
    }
    await load.pass(500)
    await provesRecovery(stack(), load)
  })

  it('that is silent for six seconds is answered for by 503s within five, and heals', { timeout: 60_000 }, async () => {
    const load = startLoad(stack(), { perSecond })
    await load.pass(1_000)
    proxy.blackhole()
    await load.pass(6_000)
    await proxy.heal()
    await load.pass(2_000)
    await load.stop()
    const refused = load.sent
      .flatMap(({ answers }) => answers)
      .flatMap((answer) => (answer !== 'broken' && answer.status === 503 ? [answer] : []))
    expect(refused.length).toBeGreaterThan(2 * perSecond)
    // 2.5 s in the buffer, or 5 s for a commit that gives no answer; longer than either no sender waits.
    for (const { code, tookMs } of refused)
      expect(tookMs, code).toBeLessThan(code === 'waited_too_long' ? 3_500 : 6_000)
    await provesRecovery(stack(), load)
  })

  it('that breaks while results are written keeps them, and sends nothing twice', { timeout: 60_000 }, async () => {
    // Slow enough that many attempts are under way whenever the line breaks.
    receiver.on('*', delayed(300))
    const load = startLoad(stack(), { perSecond })
    await load.pass(500)
    const cut = proxy.cutAfter(Buffer.from('results\0'), { times: 5 })
    await load.pass(2_000)
    expect(cut.count()).toBe(5)
    // And now before Postgres has them: what was answered meanwhile is recorded when it is back.
    proxy.stopAccepting()
    proxy.reset()
    await load.pass(1_500)
    await proxy.heal()
    await load.pass(500)
    const tally = await provesRecovery(stack(), load)
    expect(tally.repeats).toBe(0)
  })
})
