import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { HttpServerComponent } from './http-server.ts'
import { httpServer } from './http-server.ts'

/** Where a service stands: ready is the only phase in which `/readyz` can be green. */
export type Phase = 'starting' | 'ready' | 'draining'

/** Resolves when the dependency works, rejects when it doesn't. */
export type Check = (signal: AbortSignal) => Promise<void>

export type Ops = {
  readonly host: string
  /** `TENTERHOOK_OPS_PORT`. */
  readonly port: number
  /** A Prometheus registry. */
  readonly metrics: { metrics(): Promise<string>; readonly contentType: string }
  /** What `/readyz` asks, by name: `{ postgres, redis }`. */
  readonly checks: Readonly<Record<string, Check>>
}

/** A prober gives up after a second or more; an answer that names the dependency that hangs must be faster. */
const checkTimeoutMs = 800
/** A dependency's error may be long and may quote settings; its first words are enough here, the log has the rest. */
const checkErrorCharsMax = 200

/**
 * The ops port: `/metrics` for Prometheus, `/livez` (the event loop turns; nothing else is asked, since restarting
 * every copy heals no database) and `/readyz` (send this copy traffic: started, not draining, each check passing).
 */
export function opsServer({ ops, phase }: { ops: Ops; phase: () => Phase }): HttpServerComponent {
  const server = createServer((request, response) => {
    // The body of a probe is nobody's business; reading it to its end lets the connection be used again.
    request.resume()
    answer(request.url ?? '/', response).catch((error: unknown) => {
      if (response.headersSent) response.destroy()
      else text(response, 500, `${error instanceof Error ? error.message : String(error)}\n`)
    })
  })

  async function answer(target: string, response: ServerResponse): Promise<void> {
    switch (target.split('?', 1)[0]) {
      case '/metrics':
        response.setHeader('Content-Type', ops.metrics.contentType)
        response.end(await ops.metrics.metrics())
        return
      case '/livez':
        text(response, 200, 'ok\n')
        return
      case '/readyz': {
        const readiness = await readinessOf(ops.checks, phase())
        response.writeHead(readiness.ok ? 200 : 503, { 'Content-Type': 'application/json' })
        response.end(`${JSON.stringify(readiness)}\n`)
        return
      }
      default:
        text(response, 404, 'only /metrics, /livez and /readyz are here\n')
    }
  }

  // Its own draining signal never aborts: probes keep their connections until the very end.
  return httpServer({
    name: 'ops',
    server,
    host: ops.host,
    port: ops.port,
    portVariable: 'TENTERHOOK_OPS_PORT',
    draining: new AbortController().signal,
  })
}

type Readiness = { ok: boolean; phase: Phase; checks: Record<string, string> }

async function readinessOf(checks: Ops['checks'], phase: Phase): Promise<Readiness> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => [name, await resultOf(check)] as const),
  )
  const passing = results.every(([, result]) => result === 'ok')
  return { ok: phase === 'ready' && passing, phase, checks: Object.fromEntries(results) }
}

async function resultOf(check: Check): Promise<string> {
  const timeout = new AbortController()
  const timedOut = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    timedOut.reject(new Error(`no answer within ${checkTimeoutMs} ms`))
    timeout.abort()
  }, checkTimeoutMs)
  try {
    await Promise.race([check(timeout.signal), timedOut.promise])
    return 'ok'
  } catch (error) {
    return `down: ${error instanceof Error ? error.message : String(error)}`.slice(0, checkErrorCharsMax)
  } finally {
    clearTimeout(timer)
  }
}

function text(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' })
  response.end(body)
}
