/**
 * The load, in a process of its own: signed 1 KB requests over keep-alive connections.
 *
 * Two paces. `fixed` is an open loop: each request has its time on a schedule that waits for nobody, and latency counts
 * from that time, so a stall shows in every request that it held up. `full` is as fast as it goes with a
 * bounded number in flight; with `undeliveredMax` it also waits while more deliveries than that are on their way, which finds
 * the rate that the whole path keeps up, where without it accepting may outrun delivering.
 */
import { createHmac, randomUUID } from 'node:crypto'
import { Pool, request } from 'undici'
import { nowUs } from './clock.ts'
import { startHistogram } from './histogram.ts'
import type { Latency } from './histogram.ts'
import type { Window } from './sink.ts'
import { stampedBody } from './stamp.ts'
import { answerQuestions } from './worker.ts'

export type Pace =
  | { kind: 'fixed'; perSecond: number }
  | { kind: 'full'; inFlight: number; keepStep?: { sinkUrl: string; fanOut: number; undeliveredMax: number } }

export type Target = { url: string; secret: string }

/** `targets`: of one origin; events go to them in turn. */
export type Plan = { run: number; targets: readonly Target[]; pace: Pace; startUs: number; window: Window }

export type GeneratorReport = {
  /** 2xx answers since the load began, up to the end of the window, and inside the window. */
  accepted: number
  acceptedByWindowEnd: number
  acceptedInWindow: number
  /** Answers to requests that were meant to be sent inside the window, by status or error code. */
  outcomes: Record<string, number>
  accept: Latency | null
  /** How late requests left this process; a pace the generator can't hold shows here and in `skipped`. */
  late: Latency | null
  skipped: number
}

/** An open loop against a server that stopped answering must not grow for ever: what is due beyond this is skipped, and said. */
const outstandingMax = 10_000
const connectionsMax = 64
const answerTimeoutMs = 30_000
const keepStepEveryMs = 20

async function generate(plan: Plan): Promise<GeneratorReport> {
  const targets = plan.targets.map(({ url, secret }) => ({ path: new URL(url).pathname, secret }))
  const pool = new Pool(new URL(plan.targets[0]?.url ?? '').origin, {
    connections: connectionsMax,
    headersTimeout: answerTimeoutMs,
    bodyTimeout: answerTimeoutMs,
  })
  const { fromUs, toUs } = plan.window
  const accept = startHistogram()
  const late = startHistogram()
  const outcomes: Record<string, number> = {}
  const total = { sent: 0, failed: 0, accepted: 0, acceptedByWindowEnd: 0, acceptedInWindow: 0, skipped: 0 }
  let outstanding = 0

  async function send(intendedUs: number): Promise<void> {
    outstanding++
    const number = total.sent++
    const target = targets[number % targets.length]
    if (target === undefined) throw new Error('a plan has at least one target')
    const outcome = await post(target, stampedBody({ run: plan.run, number, intendedUs }))
    const answeredUs = nowUs()
    outstanding--
    if (intendedUs >= fromUs && intendedUs < toUs) {
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      accept.record(answeredUs - intendedUs)
    }
    if (!outcome.startsWith('2')) {
      total.failed++
      return
    }
    total.accepted++
    if (answeredUs < toUs) total.acceptedByWindowEnd++
    if (answeredUs >= fromUs && answeredUs < toUs) total.acceptedInWindow++
  }

  async function post({ path, secret }: { path: string; secret: string }, body: Buffer): Promise<string> {
    const signature = createHmac('sha256', secret).update(body).digest('hex')
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'GitHub-Hookshot/bench',
      'x-github-event': 'push',
      'x-github-delivery': randomUUID(),
      'x-hub-signature-256': `sha256=${signature}`,
    }
    try {
      const response = await pool.request({ method: 'POST', path, headers, body })
      await response.body.dump()
      return String(response.statusCode)
    } catch (error) {
      return error instanceof Error && 'code' in error ? String(error.code) : 'error'
    }
  }

  async function fixed(perSecond: number): Promise<void> {
    const everyUs = 1_000_000 / perSecond
    const sending = new Set<Promise<void>>()
    for (let slot = 0; ;) {
      const now = nowUs()
      for (; plan.startUs + slot * everyUs <= now; slot++) {
        const intendedUs = Math.round(plan.startUs + slot * everyUs)
        if (intendedUs >= toUs) {
          await Promise.all(sending)
          return
        }
        if (outstanding >= outstandingMax) {
          total.skipped++
          continue
        }
        if (intendedUs >= fromUs) late.record(nowUs() - intendedUs)
        const one = send(intendedUs).finally(() => sending.delete(one))
        sending.add(one)
      }
      await new Promise((resolve) =>
        setTimeout(resolve, Math.max(1, (plan.startUs + slot * everyUs - nowUs()) / 1_000)),
      )
    }
  }

  async function full({ inFlight, keepStep }: Extract<Pace, { kind: 'full' }>): Promise<void> {
    let undelivered = 0
    let waiting: (() => void)[] = []
    async function follow({ sinkUrl, fanOut, undeliveredMax }: NonNullable<typeof keepStep>): Promise<void> {
      while (nowUs() < toUs) {
        const arrived = Number(await (await request(sinkUrl)).body.text())
        undelivered = (total.sent - total.failed) * fanOut - arrived
        // No more are let go than there is room for: all at once would make bursts of the bound's size.
        const room = Math.max(0, Math.ceil((undeliveredMax - undelivered) / fanOut))
        for (const go of waiting.splice(0, room)) go()
        await new Promise((resolve) => setTimeout(resolve, keepStepEveryMs))
      }
      for (const go of waiting.splice(0)) go()
    }
    async function one(): Promise<void> {
      while (nowUs() < toUs) {
        if (keepStep !== undefined && undelivered >= keepStep.undeliveredMax) {
          await new Promise<void>((resolve) => waiting.push(resolve))
          continue
        }
        undelivered += keepStep?.fanOut ?? 0
        await send(nowUs())
      }
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, (plan.startUs - nowUs()) / 1_000)))
    await Promise.all([...Array.from({ length: inFlight }, one), ...(keepStep === undefined ? [] : [follow(keepStep)])])
  }

  if (plan.pace.kind === 'fixed') await fixed(plan.pace.perSecond)
  else await full(plan.pace)
  await pool.close()
  const { accepted, acceptedByWindowEnd, acceptedInWindow, skipped } = total
  return {
    accepted,
    acceptedByWindowEnd,
    acceptedInWindow,
    skipped,
    outcomes,
    accept: accept.latency(),
    late: late.latency(),
  }
}

answerQuestions<Plan, GeneratorReport>(generate)
