/**
 * Signed events at a fixed rate while something goes wrong, and a record of what each was answered. Open loop: a slow
 * answer holds up no other event, as it is with real senders. It ends with the test that started it.
 */
import { hash, randomUUID } from 'node:crypto'
import { Agent } from 'undici'
import { onTestFinished } from 'vitest'
import { until } from './poll.ts'
import type { Receiver } from './receiver.ts'
import { signed } from './send.ts'
import type { Stack, StackConfig } from './stack.ts'

export type Sent = {
  /** GitHub's delivery id: the dedupe key. */
  readonly key: string
  readonly body: Buffer
  readonly sha256: string
  /** Every answer, the last one last; `broken` when the connection ended without one. */
  readonly answers: Answer[]
}
/** `code` is a problem's. */
export type Answer =
  | { status: number; id: string | undefined; duplicate: boolean; code: string | undefined; tookMs: number }
  | 'broken'

export type Load = {
  readonly sent: readonly Sent[]
  /** Goes on for about this long, measured in what it sends. */
  pass(ms: number): Promise<void>
  /** Sends no more, and waits for the answers. */
  stop(): Promise<readonly Sent[]>
  /** Sends again what was not answered 2xx, as senders do, until all of it is. */
  resend(): Promise<void>
  /** Answers by status, those that never came as `broken`: `{ 200: 812, 503: 4 }`. */
  tally(): Record<string, number>
}

export const loadSource = 'hub'
export const loadPaths = ['/plain', '/signed'] as const
export const loadSigningSecret = 'whsec_dGhlIGxvYWQncyBzaWduaW5nIHNlY3JldA'

/** Every event of the load goes to both paths of the receiver, to `/signed` under a Standard Webhooks signature. */
export function loadConfig(receiver: Receiver, overrides: { timeout?: string } = {}): StackConfig {
  return {
    sources: { [loadSource]: { verification: { scheme: 'github', secret: 'the load’s secret' } } },
    destinations: {
      plain: { url: `${receiver.url}/plain`, ...overrides },
      signed: { url: `${receiver.url}/signed`, signing: { secrets: [loadSigningSecret] }, ...overrides },
    },
    connections: {
      'to-plain': { source: loadSource, destination: 'plain', retry: quickRetries },
      'to-signed': {
        source: loadSource,
        destination: 'signed',
        filter: { 'body.n': { $gte: 0 } },
        retry: quickRetries,
      },
    },
  }
}
/** A test is not to wait for a retry that a fault made necessary. */
const quickRetries = { schedule: ['500ms', '1s', '1s', '1s', '5s'] }

const requestTimeoutMs = 20_000
const resendEveryMs = 100
const catchUpMs = 250
/** Twenty seconds' worth at the highest rate here: what a gateway that hangs may leave waiting. */
const underWayMax = 5_000

export type LoadOptions = {
  perSecond: number
  /** Of each body, about. */
  bytes?: number
  /** Where the next event goes: for more than one ingest. Default: the stack's first. */
  origin?: () => string
}

export function startLoad(
  stack: Stack,
  { perSecond, bytes = 300, origin = () => new URL(stack.ingestUrl).origin }: LoadOptions,
): Load {
  // As many connections as it takes: the load is never what waits.
  const agent = new Agent({ bodyTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs })
  const sent: Sent[] = []
  const underWay = new Set<Promise<void>>()
  const padding = 'x'.repeat(bytes)

  function next(): void {
    const body = Buffer.from(JSON.stringify({ n: sent.length, key: randomUUID(), padding }))
    const one: Sent = { key: randomUUID(), body, sha256: hash('sha256', body, 'hex'), answers: [] }
    sent.push(one)
    launch(one)
  }

  function launch(one: Sent): void {
    const sending = ask(one).finally(() => underWay.delete(sending))
    underWay.add(sending)
  }

  async function ask(one: Sent): Promise<void> {
    const headers = [
      ['X-GitHub-Event', 'push'],
      ['X-GitHub-Delivery', one.key],
      ['Content-Type', 'application/json'],
    ] as const
    const request = signed(stack, loadSource, { headers, body: one.body })
    const sentMs = performance.now()
    try {
      const { statusCode, body } = await agent.request({
        origin: origin(),
        path: request.path,
        method: 'POST',
        headers: request.headers.flatMap(([name, value]) => [name, value]),
        body: request.body,
      })
      const answer = JSON.parse(await body.text()) as { id?: string; duplicate?: boolean; code?: string }
      one.answers.push({
        status: statusCode,
        id: answer.id,
        duplicate: answer.duplicate === true,
        code: answer.code,
        tookMs: performance.now() - sentMs,
      })
    } catch {
      one.answers.push('broken')
    }
  }

  // What a stalled machine left unsent is forgotten beyond a moment's worth: caught up at once, it would stall it again.
  let owedSinceMs = performance.now()
  const timer = setInterval(() => {
    const nowMs = performance.now()
    owedSinceMs = Math.max(owedSinceMs, nowMs - catchUpMs)
    for (; owedSinceMs < nowMs && underWay.size < underWayMax; owedSinceMs += 1_000 / perSecond) next()
  }, 5)

  async function settle(): Promise<void> {
    while (underWay.size > 0) await Promise.all(underWay)
  }

  // A test that fails half-way must not go on loading the next one.
  onTestFinished(async () => {
    clearInterval(timer)
    await agent.destroy()
  })

  return {
    sent,
    async pass(ms) {
      const wanted = sent.length + (perSecond * ms) / 1_000
      await until(() => sent.length >= wanted, { what: `${ms} ms of load`, timeoutMs: ms + 5_000 })
    },
    async stop() {
      clearInterval(timer)
      await settle()
      return sent
    },
    async resend() {
      await until(
        async () => {
          const refused = sent.filter((one) => !isAccepted(one))
          for (const one of refused) launch(one)
          await settle()
          return sent.every(isAccepted)
        },
        { what: 'every event to be accepted in the end', timeoutMs: 30_000, everyMs: resendEveryMs },
      )
    },
    tally() {
      const answers = sent
        .flatMap((one) => one.answers)
        .map((answer) => (answer === 'broken' ? answer : String(answer.status)))
      return Object.fromEntries(
        Object.entries(Object.groupBy(answers, String)).map(([kind, all]) => [kind, all?.length ?? 0]),
      )
    },
  }
}

/** The id it was accepted under; undefined while no 2xx came. */
export function acceptedAs(one: Sent): string | undefined {
  for (const answer of one.answers)
    if (answer !== 'broken' && answer.status >= 200 && answer.status < 300) return answer.id
  return undefined
}

function isAccepted(one: Sent): boolean {
  return acceptedAs(one) !== undefined
}
