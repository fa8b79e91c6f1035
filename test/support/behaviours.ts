import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HeaderPairs } from '@tenterhook/schemas/headers'

/**
 * What a receiver does with a request once it has read and recorded it. A behaviour may end the response, leave it
 * open for ever or break the connection; the receiver's stop() ends what is left open.
 */
export type Behaviour = (request: IncomingMessage, response: ServerResponse) => void

export type Answer = { status?: number; headers?: HeaderPairs; body?: string | Buffer }

export function answer({ status = 200, headers = [], body = '' }: Answer = {}): Behaviour {
  const bytes = Buffer.from(body)
  return (_request, response) => {
    for (const [name, value] of headers) response.appendHeader(name, value)
    response.writeHead(status, bodyless(status) ? {} : { 'content-length': bytes.length })
    response.end(bodyless(status) ? undefined : bytes)
  }
}

/** Each request gets the next behaviour; the last one stays. `inTurn(answer({status: 500}), answer())` fails once. */
export function inTurn(first: Behaviour, ...rest: Behaviour[]): Behaviour {
  const waiting = [...rest]
  let current: Behaviour | undefined
  return (request, response) => {
    current = current === undefined ? first : (waiting.shift() ?? current)
    current(request, response)
  }
}

/** Fails the given number of times, then does as told. */
export function failing(
  times: number,
  { status = 500, then = answer() }: { status?: number; then?: Behaviour } = {},
): Behaviour {
  const failure = answer({ status })
  let left = times
  return (request, response) => (left-- > 0 ? failure(request, response) : then(request, response))
}

/** Reads the request and never answers, until the sender gives up. */
export function hang(): Behaviour {
  return () => {}
}

/** Waits, then does as told; nothing happens when the sender has given up in the meantime. */
export function delayed(delayMs: number, then: Behaviour = answer()): Behaviour {
  return (request, response) => {
    const timer = setTimeout(() => then(request, response), delayMs)
    response.once('close', () => clearTimeout(timer))
  }
}

/** A 200 whose body comes a byte at a time and never ends: each byte resets a naive idle timeout. */
export function drip({ everyMs = 1_000 }: { everyMs?: number } = {}): Behaviour {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' })
    response.flushHeaders()
    const timer = setInterval(() => response.write('.'), everyMs)
    response.once('close', () => clearInterval(timer))
  }
}

/** As drip, but inside the header block: a client that bounds only the body waits for ever. */
export function dripHeaders({ everyMs = 1_000 }: { everyMs?: number } = {}): Behaviour {
  return (request, response) => {
    request.socket.write('HTTP/1.1 200 OK\r\nx-slow: ')
    const timer = setInterval(() => request.socket.write('.'), everyMs)
    response.once('close', () => clearInterval(timer))
  }
}

/** A 200 whose body never ends, as fast as the sender reads. */
export function endless(): Behaviour {
  const chunk = Buffer.alloc(64 * 1024, 'x')
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream' })
    const fill = () => {
      while (!response.destroyed && response.write(chunk)) {}
    }
    response.on('drain', fill)
    fill()
  }
}

/** RST in place of an answer: the sender can't know whether the request was worked on. */
export function reset(): Behaviour {
  return (request) => void request.socket.resetAndDestroy()
}

/** Promises more body than it sends, then closes. */
export function closeMidResponse({ status = 200 }: { status?: number } = {}): Behaviour {
  return (request, response) => {
    response.writeHead(status, { 'content-length': 1_000 })
    response.write('the first part', () => request.socket.end())
  }
}

export function redirect(location: string, { status = 307 }: { status?: number } = {}): Behaviour {
  return answer({ status, headers: [['location', location]] })
}

function bodyless(status: number): boolean {
  return status === 204 || status === 304
}
