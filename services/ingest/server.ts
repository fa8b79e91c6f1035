import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import express, { type Request, type Response } from 'express'
import { pairsFromRawHeaders, soleHeader } from '@tenterhook/schemas/headers'
import type { Probe } from '@tenterhook/schemas/probe'
import { discardRest, readBody, type BodyBudget } from './body.ts'
import { problemAnswer, problemBytes, type Answer, type Refusal } from './problem.ts'
import type { Arrival, Receipt } from './receive.ts'

const headerBytesMax = 32 * 1_024
const headersTimeoutMs = 10_000
/** A whole request, its body included: 1 MiB in this time is 280 kbit/s. */
const requestTimeoutMs = 30_000
const timeoutCheckEveryMs = 1_000
/** Each holds a request's head, at most; beyond, new ones are closed as they come. */
const connectionsMax = 10_000
/** Longer than the idle timeout of the load balancers in front (AWS ALB: 60 s), so that they never reuse a closed connection. */
const keepAliveMs = 75_000

/**
 * The HTTP side of ingest: any method on `/in/<source>` and below. Express finds the client's address behind trusted
 * proxies; the request itself is left as it came: raw target, raw headers, undecoded stream.
 */
export function createIngestServer(params: {
  receive: (arrival: Arrival) => Promise<Receipt>
  report: (receipt: Receipt, arrival: Arrival, durationMs: number) => void
  /** Requests that Node's parser refused before they were requests, or that missed every source. */
  reportRefusal: (refusal: Refusal, where: { method: string; path: string; remoteAddress: string | null }) => void
  budget: BodyBudget
  trustedProxies: readonly string[]
  monotonicMs: () => number
  probe: Probe
}): Server {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('trust proxy', params.trustedProxies)

  app.use(async (request: Request, response: Response) => {
    const begunMs = params.monotonicMs()
    const arrival = arrivalOf(request, params.budget)
    if (!arrival) {
      const refusal = { status: 404, code: 'not_found', detail: 'webhooks are received at /in/<source>' }
      params.reportRefusal(refusal, {
        method: request.method,
        path: request.originalUrl.split('?', 1)[0] ?? '',
        remoteAddress: request.ip ?? null,
      })
      send(response, problemAnswer(refusal))
      discardRest(request)
      return
    }
    const receipt = await params.receive(arrival)
    send(response, receipt.answer)
    if (receipt.kind === 'accepted') params.probe('ingest.after_answer')
    discardRest(request)
    params.report(receipt, arrival, params.monotonicMs() - begunMs)
  })
  // Express's own refusals, of a target that can't be decoded for one.
  app.use((_error: unknown, request: Request, response: Response, _next: unknown) => {
    const refusal = { status: 400, code: 'request_malformed', detail: 'the request could not be read' }
    params.reportRefusal(refusal, {
      method: request.method,
      path: request.originalUrl.split('?', 1)[0] ?? '',
      remoteAddress: request.ip ?? null,
    })
    if (response.headersSent) response.destroy()
    else send(response, problemAnswer(refusal))
  })

  const server = createServer(
    // A request without Host, which HTTP/1.1 asks for, is taken: Node's own refusal would be empty and unseen.
    { maxHeaderSize: headerBytesMax, connectionsCheckingInterval: timeoutCheckEveryMs, requireHostHeader: false },
    app,
  )
  server.on('checkExpectation', (request, response) => {
    const refusal = {
      status: 417,
      code: 'expectation_unknown',
      detail: 'of the Expect header only 100-continue is known',
    }
    params.reportRefusal(refusal, {
      method: request.method ?? '',
      path: (request.url ?? '').split('?', 1)[0] ?? '',
      remoteAddress: request.socket.remoteAddress ?? null,
    })
    const answer = problemAnswer(refusal)
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(answer.body)
  })
  server.maxConnections = connectionsMax
  server.headersTimeout = headersTimeoutMs
  server.requestTimeout = requestTimeoutMs
  server.keepAliveTimeout = keepAliveMs
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // The sender left: nobody reads an answer.
    if (error.code === 'ECONNRESET' || !socket.writable) return socket.destroy()
    const refusal = parserRefusal(error.code)
    params.reportRefusal(refusal, { method: '', path: '', remoteAddress: socket.remoteAddress ?? null })
    socket.end(problemBytes(refusal))
    socket.setTimeout(1_000, () => socket.destroy())
    return undefined
  })
  return server
}

/** Undefined when the target isn't `/in/<source>[/…][?…]`. */
function arrivalOf(request: Request, budget: BodyBudget): Arrival | undefined {
  const match = /^\/in\/([^/?]+)([^?]*)(?:\?(.*))?$/s.exec(request.originalUrl)
  if (!match?.[1]) return undefined
  const headers = pairsFromRawHeaders(request.rawHeaders)
  return {
    sourceName: match[1],
    method: request.method,
    target: request.originalUrl,
    path: match[2] ?? '',
    query: match[3] ?? '',
    headers,
    traceparent: soleHeader(headers, 'traceparent'),
    remoteAddress: request.ip ?? null,
    readBody: (bytesMax) => readBody(request, bytesMax, budget),
  }
}

function send(response: Response, answer: Answer): void {
  if (response.destroyed) return
  // Not response.send: it would negotiate, add a charset and an ETag.
  response.statusCode = answer.status
  for (const [name, value] of answer.headers) response.setHeader(name, value)
  response.end(answer.body)
}

/** Codes of Node's HTTP parser and its timeouts (https://nodejs.org/api/errors.html). */
function parserRefusal(code: string | undefined): Refusal {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return {
        status: 431,
        code: 'headers_too_large',
        detail: `the request line and headers together may have ${headerBytesMax} bytes`,
      }
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return {
        status: 413,
        code: 'chunk_extensions_too_large',
        detail: 'the extensions of the chunked body are too large',
      }
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return {
        status: 408,
        code: 'request_too_slow',
        detail: `headers must come within ${headersTimeoutMs / 1_000} s and the whole request within ${requestTimeoutMs / 1_000} s`,
      }
    default:
      return { status: 400, code: 'request_malformed', detail: 'this is not a well-formed HTTP/1.1 request' }
  }
}
