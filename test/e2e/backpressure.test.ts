import { Agent, request } from 'undici'
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest'
import { bufferedBytesMax } from '@tenterhook/ingest/body.ts'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { loadConfig, startLoad } from '../support/load.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startFaultProxy } from '../support/proxy.ts'
import type { FaultProxy } from '../support/proxy.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'

const megabyte = 1_048_576
/** The answer's own bound is five seconds; the rest is for a machine with much else to do. */
const answeredWithinMs = 6_500

let receiver: Receiver
let proxy: FaultProxy
let afterSeq = 0
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())
const stack = sharedStack(() => {
  const config = loadConfig(receiver)
  if ('file' in config) throw new Error('the load’s configuration is no file')
  return {
    config: {
      ...config,
      sources: { ...config.sources, open: { verification: { scheme: 'none' }, bodyBytesMax: 16 * megabyte } },
    },
    databaseUrl: async (url) => {
      const target = new URL(url)
      proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) })
      target.port = String(proxy.port)
      return target.href
    },
  }
})
afterAll(() => proxy.stop())
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
  afterSeq = await lastSeq(stack().store)
})

const waves = 2
const atOnce = 30

type Answered = { status: number; code: string | undefined; retryAfter: string | undefined; tookMs: number }

function startSender() {
  const agent = new Agent({ headersTimeout: 60_000, bodyTimeout: 60_000 })
  onTestFinished(() => agent.destroy())
  return async (source: string, body: Buffer | string = '{}'): Promise<Answered> => {
    const sentMs = performance.now()
    const response = await request(`${stack().ingestUrl}/${source}`, { method: 'POST', body, dispatcher: agent })
    const answer = (await response.body.json()) as { code?: string }
    const retryAfter = response.headers['retry-after']
    return {
      status: response.statusCode,
      code: answer.code,
      retryAfter: typeof retryAfter === 'string' ? retryAfter : undefined,
      tookMs: performance.now() - sentMs,
    }
  }
}

it(
  'a Postgres that answers nobody, not even a connect, is answered for in time, whatever the request needs of it, and senders are told to return apart',
  { timeout: 90_000 },
  async () => {
    const send = startSender()
    const load = startLoad(stack(), { perSecond: 40 })
    await load.pass(1_000)
    // Those that are open are gone, and a new one says nothing: the longest way there is.
    proxy.blackhole()
    proxy.reset()
    const refused: Promise<Answered>[] = []
    for (let n = 0; n < 80; n++) {
      // Accepted if it could be; of a source that isn't known; with a signature that is none.
      for (const source of ['open', 'nobody', 'hub']) refused.push(send(source))
      await load.pass(50)
    }
    const answers = await Promise.all(refused)
    for (const { status, code, tookMs } of answers) {
      expect(status, code).toBe(503)
      expect(tookMs, code).toBeLessThan(answeredWithinMs)
    }
    expect([...new Set(answers.map(({ retryAfter }) => retryAfter))].toSorted()).toEqual(['1', '2', '3', '4', '5'])

    await proxy.heal()
    await until(async () => (await send('hub')).status === 401, { what: 'a signature to be judged again' })
    await load.pass(1_000)
    const sent = await load.stop()
    for (const answer of sent.flatMap((one) => one.answers))
      expect(answer === 'broken' ? 0 : answer.tookMs).toBeLessThan(answeredWithinMs)
    await load.resend()
    await stack().shiftClock(12_000)
    await drained(stack().store, 45_000)
    const tally = await checkInvariants(stack().store, { sent, received: receiver.received(), afterSeq })
    expect(tally.events).toBe(sent.length)
  },
)

it(
  'many large bodies at once are taken up to a bound of memory, and beyond it answered 503; when they are done there is room again',
  { timeout: 90_000 },
  async () => {
    const send = startSender()
    const ingest = stack().service('ingest')
    const residentBytes = () => metricOf(ingest, 'process_resident_memory_bytes')
    const before = await residentBytes()
    const body = Buffer.alloc(16 * megabyte, 'x')
    proxy.blackhole()
    let heldMax = 0
    let residentMax = 0
    let isOver = false
    const watching = (async () => {
      while (!isOver) {
        heldMax = Math.max(heldMax, await metricOf(ingest, 'tenterhook_buffered_bytes'))
        residentMax = Math.max(residentMax, await residentBytes())
      }
    })()
    const answers: Answered[] = []
    for (let wave = 0; wave < waves; wave++)
      answers.push(...(await Promise.all(Array.from({ length: atOnce }, () => send('open', body)))))
    isOver = true
    await watching
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 503))
    const full = answers.filter(({ code }) => code === 'buffer_full')
    expect(full.length).toBeGreaterThan(0)
    for (const { retryAfter } of full) expect(retryAfter).toMatch(/^[1-5]$/)
    expect(heldMax).toBeGreaterThan(bufferedBytesMax / 2)
    expect(heldMax).toBeLessThanOrEqual(bufferedBytesMax)
    // What is held, what was let go and not collected yet, and the copies of the batches under way: of the gigabyte that came.
    expect(residentMax - before).toBeLessThan(5 * bufferedBytesMax)

    await proxy.heal()
    await until(async () => (await send('open', body)).status === 200, {
      what: 'a large body to be accepted',
      timeoutMs: 20_000,
    })
    await until(async () => (await metricOf(ingest, 'tenterhook_buffered_bytes')) === 0, { what: 'nothing to be held' })
    await until(async () => (await send('open')).status === 200, { what: 'a small one too' })
  },
)
