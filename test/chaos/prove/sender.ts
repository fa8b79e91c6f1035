/**
 * Senders as they are: events at a steady rate that waits for no answer, signed, and whatever is not answered 2xx sent
 * again under the same key, a few times, later and later. What an event was answered is on disk; a 2xx is a promise,
 * everything else says nothing.
 */
import { hash, randomBytes, randomUUID } from 'node:crypto'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { sourceSpec } from '@tenterhook/schemas/source'
import { signRequest } from '@tenterhook/verify/sign'
import { Agent } from 'undici'
import type { SendLine } from './evidence.ts'
import type { Journal } from './journal.ts'
import { steadyMs } from './journal.ts'
import type { Random } from './random.ts'
import { bodyFields, groupOf, sicknesses, sourceNames, sources, wantedBy } from './topology.ts'
import type { SourceName, Traits } from './topology.ts'

export type Sender = {
  /** Answered 2xx so far. */
  accepted(): number
  /** Starts no new event, and waits for the answers to all that were sent, retries included. */
  stop(): Promise<void>
}

const answerTimeoutMs = 10_000
const triesMax = 7
const firstRetryMs = 400
/** At 200 a second what a gateway that is away for 20 s leaves waiting; beyond it senders hold back. */
const underWayMax = 4_000
/** What a stalled machine left unsent is forgotten: caught up at once, it would stall it again. */
const catchUpMs = 250
const sickShare = 0.012
const paddingMax = 600
const againShare = 0.02

export function startSender({
  origins,
  perSecond,
  journal,
  random,
}: {
  /** Of every copy of ingest; each try goes to one of them by lot, as through a balancer. */
  origins: readonly [string, ...string[]]
  perSecond: number
  journal: Journal
  random: Random
}): Sender {
  const agent = new Agent({ headersTimeout: answerTimeoutMs, bodyTimeout: answerTimeoutMs })
  const underWay = new Set<Promise<void>>()
  let count = 0
  let accepted = 0

  async function sendNew(): Promise<void> {
    const n = count++
    const source = random.pick(sourceNames)
    const sick = source === 'hub' && random.next() < sickShare * sourceNames.length ? random.pick(sicknesses) : null
    const traits: Traits = { source, n, sick }
    const key = randomUUID()
    const trace = randomBytes(16).toString('hex')
    const body = Buffer.from(
      JSON.stringify({ key, ...bodyFields(traits), padding: 'ä'.repeat(random.between(0, paddingMax / 2)) }),
    )
    write({
      key,
      source,
      wants: wantedBy(traits),
      sick,
      sha256: hash('sha256', body, 'hex'),
      trace,
      group: groupOf(n),
      at: steadyMs(),
    })
    let known = false
    for (let tries = 1; tries <= triesMax; tries += 1) {
      const answer = await ask(source, key, trace, body)
      write({ key, ...answer, at: steadyMs() })
      if (answer.status !== 'broken' && answer.status < 500) {
        if (answer.status >= 300) return
        if (!known) accepted += 1
        known = true
        // Providers deliver again what they had a 2xx for, now and then.
        if (random.next() > againShare) return
      }
      await new Promise((resolve) => setTimeout(resolve, firstRetryMs * 2 ** (tries - 1) * (0.75 + random.next() / 2)))
    }
  }

  async function ask(
    source: SourceName,
    key: string,
    trace: string,
    body: Buffer,
  ): Promise<{ status: number | 'broken'; id: string | null; code: string | null }> {
    const { path, headers } = requestTo(source, key, trace, body)
    // A head that came says yes, whatever became of the rest.
    let status: number | 'broken' = 'broken'
    try {
      const answer = await agent.request({
        origin: random.pick(origins),
        path,
        method: 'POST',
        headers: headers.flatMap(([name, value]) => [name, value]),
        body,
      })
      status = answer.statusCode
      const text = await answer.body.text()
      const { id = null, code = null } = JSON.parse(text) as { id?: string; code?: string }
      return { status, id, code }
    } catch {
      return { status, id: null, code: null }
    }
  }

  function write(line: SendLine): void {
    journal.write(line).catch((error: unknown) => {
      throw new Error('the sender’s journal can’t be written: what follows would prove nothing', { cause: error })
    })
  }

  let owedSinceMs = performance.now()
  const timer = setInterval(() => {
    const nowMs = performance.now()
    owedSinceMs = Math.max(owedSinceMs, nowMs - catchUpMs)
    for (; owedSinceMs < nowMs && underWay.size < underWayMax; owedSinceMs += 1_000 / perSecond) {
      const one = sendNew().finally(() => underWay.delete(one))
      underWay.add(one)
    }
  }, 5)

  return {
    accepted: () => accepted,
    async stop() {
      clearInterval(timer)
      while (underWay.size > 0) await Promise.all(underWay)
      await agent.destroy()
      await journal.close()
    },
  }
}

const verifications = new Map(
  sourceNames.map((name) => [name, sourceSpec.parse({ name, ...sources[name] }).verification]),
)

/** The schemes in use sign no URL, so any origin will do. */
function requestTo(
  source: SourceName,
  key: string,
  trace: string,
  body: Buffer,
): { path: string; headers: HeaderPairs } {
  const verification = verifications.get(source)
  if (verification === undefined) throw new Error(`there is no source ${source}`)
  const path = `/in/${source}`
  const headers = [
    ['Content-Type', 'application/json'],
    ['X-GitHub-Event', 'push'],
    ['X-GitHub-Delivery', key],
    ['X-Event-Key', key],
    ['traceparent', `00-${trace}-${randomBytes(8).toString('hex')}-01`],
  ] as const
  const proof = signRequest(verification, {
    method: 'POST',
    url: `http://127.0.0.1${path}`,
    headers,
    body,
    id: key,
    nowMs: Date.now(),
  })
  if (proof.kind === 'unsignable') throw new Error(`${source} can't be signed for`)
  return { path, headers: proof.headers }
}
