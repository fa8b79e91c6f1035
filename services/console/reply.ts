import type { Request, RequestHandler } from 'express'

/** What a handler of the API answers with. */
export type Reply =
  | { kind: 'json'; status: number; body: unknown; headers?: Readonly<Record<string, string>> }
  /** Bytes of a stranger: for saving, never for a browser to look into. */
  | { kind: 'download'; name: string; bytes: Buffer }

export type Handler = (request: Request) => Promise<Reply>

export function ok(body: unknown): Reply {
  return { kind: 'json', status: 200, body }
}

/** The request was kept and its work goes on. */
export function accepted(body: unknown, headers: Readonly<Record<string, string>> = {}): Reply {
  return { kind: 'json', status: 202, body, headers }
}

/** Runs a handler and writes its reply. What it throws becomes a problem elsewhere. */
export function replying(handler: Handler): RequestHandler {
  return async (request, response) => {
    const reply = await handler(request)
    if (response.destroyed) return
    if (reply.kind === 'json') {
      response.status(reply.status).set(reply.headers ?? {})
      response.set('Content-Type', 'application/json')
      response.end(JSON.stringify(reply.body))
      return
    }
    response.set({
      'Content-Type': 'application/octet-stream',
      'Content-Disposition': `attachment; filename="${reply.name}"`,
    })
    response.end(reply.bytes)
  }
}
