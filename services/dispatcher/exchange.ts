import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { Dispatcher } from 'undici'
import type { Line } from './sockets.ts'

/** How much of a response body is kept. */
export const responseBytesMax = 16_384

export type Exchange = {
  /**
   * `whole`: the response came to its end, the line can be used again. `cut`: it is longer than what is kept. `broken`:
   * see `error`. `stopped`: by the signal. `withheld`: `mayWrite` said no. All but `whole` leave the line unusable.
   */
  end: 'whole' | 'cut' | 'broken' | 'stopped' | 'withheld'
  error: Error | undefined
  /** Whether the request may have left this machine. While false, sending it again is not a repeat. */
  written: boolean
  response: { status: number; headers: HeaderPairs; body: Buffer } | undefined
  firstByteMs: number | undefined
}

export type ExchangeOptions = {
  method: string
  /** Path and query. */
  path: string
  headers: HeaderPairs
  body: Buffer
  signal: AbortSignal
  monotonicMs: () => number
  /** Asked in the same turn of the event loop in which the request is written. */
  mayWrite: () => boolean
}

/** One request and its response over a line. Always settles when the signal says so; redirects are responses like others. */
export function exchange(
  { client }: Line,
  { method, path, headers, body, signal, monotonicMs, mayWrite }: ExchangeOptions,
): Promise<Exchange> {
  const { promise, resolve } = Promise.withResolvers<Exchange>()
  const chunks: Buffer[] = []
  let bytes = 0
  let writtenMs: number | undefined
  let firstByteMs: number | undefined
  let head: { status: number; headers: HeaderPairs } | undefined
  let settled = false

  const settle = (end: Exchange['end'], error?: Error) => {
    if (settled) return
    settled = true
    signal.removeEventListener('abort', stop)
    // Copied: the chunks are windows into read buffers of 64 KiB.
    const response =
      head === undefined ? undefined : { ...head, body: Buffer.concat(chunks, Math.min(bytes, responseBytesMax)) }
    resolve({ end, error, written: writtenMs !== undefined, response, firstByteMs })
  }
  const stop = () => settle('stopped')
  signal.addEventListener('abort', stop, { once: true })

  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(controller) {
      if (settled || !mayWrite()) {
        settle('withheld')
        controller.abort(new WithheldError('the request was withheld'))
        return
      }
      writtenMs = monotonicMs()
    },
    onResponseStarted() {
      if (writtenMs !== undefined) firstByteMs ??= monotonicMs() - writtenMs
    },
    onResponseStart({ rawHeaders }, status) {
      if (status >= 200) head = { status, headers: pairsFromBuffers(rawHeaders) }
    },
    onResponseData(_controller, chunk) {
      if (bytes < responseBytesMax) chunks.push(chunk)
      bytes += chunk.length
      if (bytes > responseBytesMax) settle('cut')
    },
    onResponseEnd: () => settle('whole'),
    onResponseError: (_controller, error) => settle('broken', error),
  }
  // An abort between the socket's opening and here has no listener yet, and comes only once.
  if (signal.aborted) stop()
  else client.dispatch({ method, path, headers: headers.flat(), body }, handler)
  return promise
}

class WithheldError extends Error {
  readonly code = 'withheld'
}

/** Bytes to characters one to one, as Node reads the headers of requests. */
function pairsFromBuffers(raw: Dispatcher.DispatchController['rawHeaders']): HeaderPairs {
  const texts = Array.isArray(raw) ? raw.map((text) => (typeof text === 'string' ? text : text.toString('latin1'))) : []
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < texts.length; i += 2) pairs.push([texts[i] ?? '', texts[i + 1] ?? ''])
  return pairs
}
