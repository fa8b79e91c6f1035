import { createHmac } from 'node:crypto'
import { request } from 'undici'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer, delayed } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { nowUs } from './clock.ts'
import type { GeneratorReport, Pace, Plan } from './generator.ts'
import { runPhase } from './phase.ts'
import type { RelayQuestion } from './relay.ts'
import type { SinkQuestion, SinkReport } from './sink.ts'
import { stampedBody } from './stamp.ts'
import { startWorker } from './worker.ts'
import type { Worker } from './worker.ts'

let sink: Worker<SinkQuestion, SinkReport>
let generator: Worker<Plan, GeneratorReport>
let relay: Worker<RelayQuestion, { url: string }>
let target: Receiver

beforeAll(async () => {
  sink = startWorker('./sink.ts')
  generator = startWorker('./generator.ts')
  relay = startWorker('./relay.ts')
  // A worker that is still starting when its load should begin is late for all of it.
  await Promise.all([sink.started, generator.started, relay.started])
})

beforeEach(async () => {
  await sink.ask({ kind: 'begin', run: 0, window: { fromUs: 0, toUs: 0 } })
  target = await startReceiver()
})

afterEach(() => target.stop())

afterAll(() => Promise.all([sink.stop(), generator.stop(), relay.stop()]))

const second = 1_000_000

function plan(pace: Pace, { url = `${target.url}/in/bench`, warmupSeconds = 0, seconds = 1 } = {}): Plan {
  const startUs = nowUs() + 100_000
  const fromUs = startUs + warmupSeconds * second
  return {
    run: 7,
    targets: [{ url, secret: 'It is a secret' }],
    pace,
    startUs,
    window: { fromUs, toUs: fromUs + seconds * second },
  }
}

describe('the generator', () => {
  it('holds its rate and signs as GitHub does, each delivery under an id of its own', async () => {
    const report = await generator.ask(plan({ kind: 'fixed', perSecond: 200 }))
    expect(report).toMatchObject({ accepted: 200, outcomes: { 200: 200 }, skipped: 0 })
    const received = target.received('/in/bench')
    const headers = received.map((one) => new Map(one.headers.map(([name, value]) => [name.toLowerCase(), value])))
    expect(new Set(headers.map((one) => one.get('x-github-delivery'))).size).toBe(200)
    const [first] = received
    const signature = createHmac('sha256', 'It is a secret')
      .update(first?.body ?? '')
      .digest('hex')
    expect(headers[0]?.get('x-hub-signature-256')).toBe(`sha256=${signature}`)
  })

  it('charges a stall to every request that it held up, and sends none the fewer', async () => {
    // A closed loop would send one request a connection in this second and find one slow answer each.
    target.on('*', delayed(400))
    const report = await generator.ask(plan({ kind: 'fixed', perSecond: 500 }))
    expect(report.accepted).toBe(500)
    // 64 connections × 2.5 answers a second are less than 500: what waits for a connection waits on the clock.
    expect(report.accept?.p50).toBeGreaterThan(700)
  })

  it('counts answers by status, in the window only, and only 2xx as accepted', async () => {
    target.on('*', answer({ status: 503 }))
    const refused = await generator.ask(plan({ kind: 'fixed', perSecond: 100 }, { warmupSeconds: 0.5, seconds: 0.5 }))
    expect(refused).toMatchObject({ accepted: 0, acceptedInWindow: 0, outcomes: { 503: 50 } })
    expect(target.count()).toBe(100)
    await target.stop()
    const unreachable = await generator.ask(plan({ kind: 'fixed', perSecond: 100 }, { seconds: 0.5 }))
    expect(unreachable).toMatchObject({ accepted: 0, outcomes: { ECONNREFUSED: 50 } })
  })

  it('sends to its targets in turn, to each under its own secret', async () => {
    const targets = ['one', 'two'].map((name) => ({ url: `${target.url}/in/${name}`, secret: `secret ${name}` }))
    const report = await generator.ask({ ...plan({ kind: 'fixed', perSecond: 100 }, { seconds: 0.5 }), targets })
    expect(report).toMatchObject({ accepted: 50, outcomes: { 200: 50 } })
    for (const name of ['one', 'two']) {
      const received = target.received(`/in/${name}`)
      expect(received).toHaveLength(25)
      for (const { headers, body } of received) {
        const signature = createHmac('sha256', `secret ${name}`).update(body).digest('hex')
        expect(new Map(headers).get('x-hub-signature-256')).toBe(`sha256=${signature}`)
      }
    }
  })

  it('keeps step: sends no more than may be under way when nothing is delivered', async () => {
    const { url: sinkUrl } = await sink.ask({ kind: 'report' })
    const report = await generator.ask(
      plan({ kind: 'full', inFlight: 8, keepStep: { sinkUrl, fanOut: 2, undeliveredMax: 100 } }, { seconds: 0.5 }),
    )
    expect(report.accepted).toBe(50)
  })

  it('does not wait for the delivery of what was never accepted', async () => {
    const { url: sinkUrl } = await sink.ask({ kind: 'report' })
    target.on('*', answer({ status: 500 }))
    const report = await generator.ask(
      plan({ kind: 'full', inFlight: 8, keepStep: { sinkUrl, fanOut: 1, undeliveredMax: 20 } }, { seconds: 0.5 }),
    )
    // Were they waited for, 20 and the 8 in flight would be all.
    expect(report.outcomes['500']).toBeGreaterThan(40)
  })
})

describe('the sink', () => {
  it('counts an event once a path, tells repeats and strays apart, and knows what came inside the window', async () => {
    const { url } = await sink.ask({ kind: 'report' })
    const now = nowUs()
    await sink.ask({ kind: 'begin', run: 7, window: { fromUs: now - second, toUs: now + 60 * second } })
    const post = async (path: string, run: number, number: number, intendedUs = nowUs() - 5_000) =>
      (await request(`${url}${path}`, { method: 'POST', body: stampedBody({ run, number, intendedUs }) })).body.dump()
    await post('/0', 7, 1)
    await post('/1', 7, 1)
    await post('/1', 7, 1)
    await post('/0', 7, 2, now - 10 * second) // meant for before the window
    await post('/0', 6, 3)
    await post('/999', 7, 4)
    const report = await sink.ask({ kind: 'report' })
    expect(report).toMatchObject({ arrived: 3, arrivedInWindow: 3, arrivedByWindowEnd: 3, repeats: 1, strays: 2 })
    expect(report.endToEnd).toMatchObject({ count: 2 })
    expect(report.endToEnd?.p50).toBeGreaterThanOrEqual(5)
    expect(await (await request(url)).body.text()).toBe('3')
    const after = await sink.ask({ kind: 'begin', run: 8, window: { fromUs: now - 2 * second, toUs: now - second } })
    expect(after).toMatchObject({ arrived: 0, repeats: 0, strays: 0, endToEnd: null })
    await post('/0', 8, 1)
    expect(await sink.ask({ kind: 'report' })).toMatchObject({ arrived: 1, arrivedInWindow: 0, arrivedByWindowEnd: 0 })
  })
})

describe('the sink, given another window', () => {
  it('counts afresh what comes inside it, and forgets nothing that came before', async () => {
    const { url } = await sink.ask({ kind: 'report' })
    const now = nowUs()
    const post = async (number: number) => {
      const body = stampedBody({ run: 7, number, intendedUs: 0 })
      await (await request(`${url}/0`, { method: 'POST', body })).body.dump()
    }
    await sink.ask({ kind: 'begin', run: 7, window: { fromUs: now, toUs: now + 60 * second } })
    await post(1)
    await post(2)
    const next = await sink.ask({ kind: 'window', window: { fromUs: now, toUs: now + 60 * second } })
    expect(next).toMatchObject({ arrived: 2, arrivedInWindow: 0, repeats: 0 })
    await post(2)
    await post(3)
    expect(await sink.ask({ kind: 'report' })).toMatchObject({ arrived: 3, arrivedInWindow: 1, repeats: 1 })
  })
})

describe('the sink, told that paths hang', () => {
  const post = (url: string, signal?: AbortSignal) =>
    request(url, {
      method: 'POST',
      body: stampedBody({ run: 7, number: 1, intendedUs: nowUs() }),
      ...(signal && { signal }),
    })

  it('answers them until the window begins, then reads their requests and leaves them open; the others go on', async () => {
    const { url } = await sink.ask({ kind: 'report' })
    const now = nowUs()
    const [later, open] = [now + 3_600 * second, { fromUs: now, toUs: now + second }]
    await sink.ask({ kind: 'begin', run: 7, window: { fromUs: later, toUs: later + second }, hangFrom: 1 })
    await (await post(`${url}/1`)).body.dump()
    expect(await sink.ask({ kind: 'report' })).toMatchObject({ arrived: 1, hung: { requests: 0, openMost: 0 } })

    await sink.ask({ kind: 'begin', run: 7, window: open, hangFrom: 1 })
    const givingUp = new AbortController()
    const hanging = [post(`${url}/1`, givingUp.signal), post(`${url}/2`, givingUp.signal)]
    const ends = Promise.allSettled(hanging)
    await (await post(`${url}/0`)).body.dump()
    await until(async () => (await sink.ask({ kind: 'report' })).hung.requests === 2, { what: 'both to hang' })
    expect(await sink.ask({ kind: 'report' })).toMatchObject({ arrived: 1, hung: { requests: 2, openMost: 2 } })
    givingUp.abort()
    expect((await ends).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  })

  it('counts how many are open at once, not how many came', async () => {
    const { url } = await sink.ask({ kind: 'report' })
    await sink.ask({ kind: 'begin', run: 7, window: { fromUs: 0, toUs: second }, hangFrom: 0 })
    for (let n = 1; n <= 3; n++) {
      const givingUp = new AbortController()
      const hanging = post(`${url}/0`, givingUp.signal).catch(() => 'gave up')
      await until(async () => (await sink.ask({ kind: 'report' })).hung.requests === n, {
        what: `request ${n} to hang`,
      })
      givingUp.abort()
      expect(await hanging).toBe('gave up')
    }
    const { hung } = await sink.ask({ kind: 'report' })
    expect(hung.requests).toBe(3)
    expect(hung.openMost).toBeLessThan(3)
  })
})

describe('a phase', () => {
  const phase = { run: 9, fanOut: 1, warmupSeconds: 0.2, seconds: 1, drainTimeoutSeconds: 0.5, watched: {} }
  const unstopped = new AbortController().signal

  it('measures the relay: what it accepted has arrived, unchanged', async () => {
    const { url: sinkUrl } = await sink.ask({ kind: 'report' })
    const { url } = await relay.ask({ sinkUrl })
    const watched = { relay: relay.pid, gone: 0 }
    const report = await runPhase(
      { generator, sink },
      { ...phase, targets: [{ url, secret: 's' }], pace: { kind: 'full', inFlight: 16 }, watched },
      unstopped,
    )
    expect(report).toMatchObject({ missing: 0, repeats: 0 })
    expect(report.deliveredPerSecond).toBeGreaterThan(0)
    expect(Math.abs(report.acceptedPerSecond - report.deliveredPerSecond)).toBeLessThan(50)
    expect(report.usage['relay']?.cpuSecondsPer1000).toBeGreaterThan(0)
    expect(report.sink.strays).toBe(0)
  })

  it('calls what it was given when the window begins, and lets paths hang from then on', async () => {
    const { url: sinkUrl } = await sink.ask({ kind: 'report' })
    const givingUp = new AbortController()
    const outcomes: Promise<string>[] = []
    const post = async (path: number) => {
      const stamp = { run: phase.run, number: path, intendedUs: nowUs() }
      const sent = request(`${sinkUrl}/${path}`, {
        method: 'POST',
        body: stampedBody(stamp),
        signal: givingUp.signal,
      })
      outcomes.push(sent.then(async (answered) => answered.body.dump().then(() => 'answered')).catch(() => 'gave up'))
    }
    const beganUs = nowUs()
    let calledUs = 0
    const report = await runPhase(
      { generator, sink },
      {
        ...phase,
        targets: [{ url: target.url, secret: 's' }],
        pace: { kind: 'fixed', perSecond: 10 },
        hangFrom: 1,
        async atWindow() {
          calledUs = nowUs()
          await post(0)
          await post(1)
        },
      },
      unstopped,
    )
    givingUp.abort()
    expect(calledUs - beganUs).toBeGreaterThanOrEqual(phase.warmupSeconds * second)
    expect(await Promise.all(outcomes)).toEqual(['answered', 'gave up'])
    expect(report.sink).toMatchObject({ arrived: 1, hung: { requests: 1, openMost: 1 } })
  })

  it('counts what was accepted and never arrived as backlog, then as missing', async () => {
    const report = await runPhase(
      { generator, sink },
      { ...phase, fanOut: 3, targets: [{ url: target.url, secret: 's' }], pace: { kind: 'fixed', perSecond: 100 } },
      unstopped,
    )
    expect(report).toMatchObject({ deliveredPerSecond: 0, missing: 360 })
    expect(report.backlog).toBeGreaterThan(300)
    expect(report.sink.endToEnd).toBeNull()
  })
})

it('a worker that ends fails the question it leaves open', async () => {
  const ending = startWorker<Plan, GeneratorReport>('./generator.ts')
  await ending.started
  const asked = ending.ask(plan({ kind: 'fixed', perSecond: 10 }, { seconds: 30 }))
  const failed = asked.then(() => 'answered', String)
  await ending.stop()
  expect(await failed).toContain('generator.ts ended (SIGKILL)')
})
