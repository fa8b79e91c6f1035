/**
 * Every destination but the deaf one, in a process of its own: a harness that is busy must not look like a destination
 * that is slow. What the healthy ones get is on disk before they answer 2xx.
 */
import { hash } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { testCertificate, testCertificateKey } from '@tenterhook/dispatcher/test-certificates.ts'
import { Webhook } from 'standardwebhooks'
import { answerQuestions } from '../../bench/worker.ts'
import { answer, drip, endless, hang, redirect, reset } from '../../support/behaviours.ts'
import type { Behaviour } from '../../support/behaviours.ts'
import type { ArrivalLine } from './evidence.ts'
import { openJournal, steadyMs } from './journal.ts'
import type { Journal } from './journal.ts'
import { attemptTimeoutMs, healthyNames, signingSecret } from './topology.ts'
import type { HealthyName, Sickness } from './topology.ts'

export type Urls = Record<HealthyName | Exclude<Sickness, 'deaf'>, string>
export type Question =
  | { kind: 'open'; journal: string }
  /** The sick answer 2xx from now on, all but the one whose certificate is bad. */
  | { kind: 'heal' }
  /** The journal is whole, and everything closed. */
  | { kind: 'close' }

const slowMs = 80
/** Later than this the sender of an attempt may have given up. */
const answeredInTimeMs = attemptTimeoutMs - 500
const bombBytes = 64 * 1024 ** 2

const webhook = new Webhook(signingSecret)
const isHealthy = (name: string): name is HealthyName => (healthyNames as readonly string[]).includes(name)

let journal: Journal | undefined
let arrivals = 0
let healed = false
const closers: (() => void)[] = []

async function open(path: string): Promise<Urls> {
  journal = await openJournal(path)
  // No timeouts of their own: how long a connection lives is the product's business.
  const plain = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, receive)
  const tls = createTlsServer({ key: testCertificateKey, cert: testCertificate }, receive)
  for (const server of [plain, tls]) {
    server.on('clientError', (_error, socket) => socket.destroy())
    await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0, backlog: 1_024 }, resolve))
    closers.push(() => {
      server.close()
      server.closeAllConnections()
    })
  }
  const at = (name: string) => `http://127.0.0.1:${(plain.address() as AddressInfo).port}/${name}`
  const badTls = `https://127.0.0.1:${(tls.address() as AddressInfo).port}/bad-tls`
  sick.loop = redirect(at('loop'))
  const plainNames = [...healthyNames, 'drip', 'endless', 'bomb', 'loop', 'reset', 'hang'] as const
  return { ...Object.fromEntries(plainNames.map((name) => [name, at(name)])), 'bad-tls': badTls } as Urls
}

const sick: Record<string, Behaviour> = {
  drip: drip(),
  endless: endless(),
  bomb: answer({ headers: [['content-encoding', 'gzip']], body: gzipSync(Buffer.alloc(bombBytes)) }),
  reset: reset(),
  hang: hang(),
}

function receive(request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  for (const side of [request, response]) side.on('error', () => {}) // senders break off, and sick answers write on
  request.on('end', () => {
    const name = (request.url ?? '/').slice(1)
    if (isHealthy(name)) void take(name, request, Buffer.concat(chunks), response)
    else if (healed) response.end()
    else (sick[name] ?? answer({ status: 500 }))(request, response)
  })
}

async function take(
  name: HealthyName,
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
): Promise<void> {
  const at = steadyMs()
  const n = arrivals++
  if (name === 'slow') await new Promise((resolve) => setTimeout(resolve, slowMs))
  const line: ArrivalLine = {
    n,
    destination: name,
    delivery: String(request.headers['webhook-id']),
    key: /"key":"([^"]+)"/.exec(body.toString('latin1'))?.[1] ?? null,
    sha256: hash('sha256', body, 'hex'),
    signed: name === 'signed' || name === 'slow' ? isSigned(request, body) : null,
    trace: /^00-([0-9a-f]{32})-/.exec(String(request.headers['traceparent']))?.[1] ?? null,
    at,
  }
  await journal?.write(line)
  const unanswered: ArrivalLine = { n, unanswered: true }
  const isLate = steadyMs() - at > answeredInTimeMs || response.destroyed
  if (isLate) void journal?.write(unanswered)
  else response.once('close', () => void (response.writableFinished || journal?.write(unanswered)))
  response.writeHead(200, { 'content-length': 0 }).end()
}

/** Under our secret, and dated within the five minutes that receivers allow: the product's clock may be an hour off. */
function isSigned(request: IncomingMessage, body: Buffer): boolean {
  try {
    webhook.verify(body.toString('utf8'), request.headers as Record<string, string>)
    return true
  } catch {
    return false
  }
}

answerQuestions<Question, Urls | null>(async (question) => {
  switch (question.kind) {
    case 'open':
      return open(question.journal)
    case 'heal':
      healed = true
      return null
    case 'close':
      for (const close of closers) close()
      await new Promise((resolve) => setTimeout(resolve, slowMs * 2))
      await journal?.close()
      return null
  }
})
