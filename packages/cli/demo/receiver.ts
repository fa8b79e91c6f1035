import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

/**
 * The demo's destinations on one server: it says yes to what arrives and remembers it, and refuses the first request
 * to `/crm`, so that a newcomer sees a retry.
 *
 *   POST /accounting /crm /web /pos /chat /project /campaigns   200 {"ok":true}
 *   GET /received                                              what arrived, oldest first
 *   DELETE /received                                           forgets it
 */
export type Received = {
  readonly path: string
  readonly method: string
  readonly headers: IncomingMessage['headers']
  /** Base64. */
  readonly body: string
  /** ISO 8601. */
  readonly time: string
  /** What was answered. */
  readonly status: number
}

const destinations: ReadonlySet<string> = new Set([
  '/accounting',
  '/crm',
  '/web',
  '/pos',
  '/chat',
  '/project',
  '/campaigns',
])
const refusedAtFirst = '/crm'
const receivedMax = 10_000
/** Above what ingest accepts. */
const bodyBytesMax = 2 * 1024 * 1024

export function createReceiver({ now }: { now: () => Date }): Server {
  let received: Received[] = []
  let refused = false

  async function take(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const body = await readBody(request)
    if (body === undefined) {
      response.setHeader('connection', 'close')
      return answer(response, 413, { error: 'too large' })
    }
    const status = path === refusedAtFirst && !refused ? 503 : 200
    refused ||= path === refusedAtFirst
    const { method = '', headers } = request
    received = [
      ...received.slice(1 - receivedMax),
      { path, method, headers, body: body.toString('base64'), time: now().toISOString(), status },
    ]
    answer(
      response,
      status,
      status === 200 ? { ok: true } : { ok: false, error: 'refused once, on purpose: see it come again' },
    )
  }

  return createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://demo').pathname
    if (path === '/received') {
      request.resume()
      if (request.method === 'DELETE') received = []
      answer(response, 200, request.method === 'DELETE' ? { ok: true } : received)
    } else if (destinations.has(path)) {
      take(request, response, path).catch(() => response.destroy()) // the sender went away
    } else {
      request.resume()
      answer(response, 404, { error: 'no such destination', destinations: [...destinations] })
    }
  })
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

/** Undefined when it is too large. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

if (import.meta.main) {
  const port = Number(process.argv[2])
  createReceiver({ now: () => new Date() }).listen(port, '127.0.0.1')
}
