import type { IncomingMessage } from 'node:http'

/** Bytes of bodies held by this process, over all requests: read, being read, waiting for their commit (I10). */
export interface BodyBudget {
  take(bytes: number): boolean
  give(bytes: number): void
}

export const bufferedBytesMax = 128 * 1_048_576

export function createBodyBudget(bytesMax: number, onChange: (bytes: number) => void): BodyBudget {
  let held = 0
  return {
    take(bytes) {
      if (held + bytes > bytesMax) return false
      held += bytes
      onChange(held)
      return true
    },
    give(bytes) {
      held -= bytes
      onChange(held)
    },
  }
}

export type BodyRead =
  /** `release` gives the bytes back to the budget, once the request is answered. */
  | { kind: 'read'; body: Buffer; release: () => void }
  | { kind: 'too_large' }
  | { kind: 'no_room' }
  /** The sender went away, or was too slow and its connection was closed. */
  | { kind: 'incomplete'; bytes: number }

/**
 * Reads the raw bytes as they came: no inflating, no decoding, which would break signatures. Never throws. Chunks are
 * charged to the budget as they arrive, so a declared length that never comes costs nothing.
 */
export function readBody(request: IncomingMessage, bytesMax: number, budget: BodyBudget): Promise<BodyRead> {
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > bytesMax) return Promise.resolve({ kind: 'too_large' })
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let bytes = 0
    let settled = false
    const settle = (result: BodyRead) => {
      if (settled) return
      settled = true
      if (result.kind !== 'read') budget.give(bytes)
      request.off('data', onData)
      resolve(result)
    }
    const onData = (chunk: Buffer) => {
      if (bytes + chunk.length > bytesMax) return settle({ kind: 'too_large' })
      if (!budget.take(chunk.length)) return settle({ kind: 'no_room' })
      bytes += chunk.length
      chunks.push(chunk)
    }
    request.on('data', onData)
    request.once('end', () => {
      const charged = bytes
      settle({
        kind: 'read',
        body: chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks),
        release: () => budget.give(charged),
      })
    })
    request.once('close', () => settle({ kind: 'incomplete', bytes }))
    request.once('error', () => settle({ kind: 'incomplete', bytes }))
  })
}

/** How long a sender whose body was refused may go on sending, so that it gets to read the answer. */
const lingerMs = 1_000

/** Lets the rest of a refused body pass unread, then closes the connection. */
export function discardRest(request: IncomingMessage): void {
  if (request.complete) return
  request.resume()
  const timer = setTimeout(() => request.socket.destroy(), lingerMs)
  timer.unref()
  request.once('close', () => clearTimeout(timer))
}
