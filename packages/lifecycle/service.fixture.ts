/**
 * A service of one HTTP server, run as a process of its own. Its first argument changes one thing:
 * `plain`, `slow-stop` (needs until its signal aborts), `stuck-stop`, `slow-start`, `stuck-start`, `fails`, `bug`.
 * `GET /throw` and `GET /reject` go wrong outside of any handler; `GET /slow` takes 300 ms.
 */
import { createServer } from 'node:http'
import { createLogger } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import type { Component } from './component.ts'
import { describeEnvironment, readEnvironment } from './environment.ts'
import { httpServer } from './http-server.ts'
import { runService } from './service.ts'
import { serviceVariables } from './service-variables.ts'
import { port } from './variables.ts'

const environment = readEnvironment({ ...serviceVariables, PORT: port })
const log = createLogger({ service: 'fixture', level: environment.LOG_LEVEL })
const draining = new AbortController()

const server = createServer((request, response) => {
  switch (request.url) {
    case '/throw':
      setImmediate(() => {
        throw new Error('thrown outside of a handler')
      })
      break
    case '/reject':
      void Promise.reject(new Error('rejected outside of a handler'))
      break
    case '/slow':
      log.info({ event: 'fixture.slow' })
      setTimeout(() => response.end('slow'), 300)
      return
    default:
  }
  response.end('hello')
})
const http = httpServer({
  name: 'http',
  server,
  host: environment.HOST,
  port: environment.PORT,
  portVariable: 'PORT',
  draining: draining.signal,
})

const never = new Promise<void>(() => {})
const odd: { -readonly [Field in keyof Component]: Component[Field] } = {
  name: 'odd',
  start: async () => {},
  stop: async () => {},
}
switch (process.argv[2]) {
  case 'slow-stop':
    odd.stop = (signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve()))
    break
  case 'stuck-stop':
    odd.stop = () => never
    break
  case 'slow-start':
    odd.start = () => new Promise((resolve) => setTimeout(resolve, 500))
    break
  case 'stuck-start':
    odd.start = () => never
    break
  case 'fails':
    odd.start = () => Promise.reject(Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' }))
    break
  case 'bug':
    odd.start = () => Promise.reject(new TypeError('undefined is not a function'))
    break
  default:
}

await runService({
  name: 'fixture',
  components: [
    odd,
    http,
    { name: 'url', start: async () => log.info({ event: 'fixture.listening', url: http.url() }), stop: async () => {} },
  ],
  log,
  ops: {
    host: environment.HOST,
    port: environment.TENTERHOOK_OPS_PORT,
    metrics: createMetrics({ service: 'ingest' }).registry,
    checks: {},
  },
  draining,
  drainDelayMs: environment.TENTERHOOK_DRAIN_DELAY,
  graceMs: environment.TENTERHOOK_GRACE,
  settings: describeEnvironment(environment),
})
