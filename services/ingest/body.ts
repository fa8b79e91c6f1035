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
 * Reads the raw bytes as they came: no inflating, no decoding, which would break signatures. Never throws. What they take
 * in memory is charged to the budget as they arrive, so a declared length that never comes costs nothing; the request's
 * head, which is kept as long, is charged before them.
 */
export function readBody(request: IncomingMessage, bytesMax: number, budget: BodyBudget): Promise<BodyRead> {
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > bytesMax) return Promise.resolve({ kind: 'too_large' })
  const headBytes = request.rawHeaders.reduce((sum, text) => sum + text.length, request.url?.length ?? 0)
  if (!budget.take(headBytes)) return Promise.resolve({ kind: 'no_room' })
  return new Promise((resolve) => {
    const parts = createParts()
    let charged = headBytes
    let bytes = 0
    let settled = false
    const settle = (result: BodyRead) => {
      if (settled) return
      settled = true
      if (result.kind !== 'read') budget.give(charged)
      request.off('data', onData)
      resolve(result)
    }
    const onData = (chunk: Buffer) => {
      if (bytes + chunk.length > bytesMax) return settle({ kind: 'too_large' })
      const cost = parts.costOf(chunk)
      if (!budget.take(cost)) return settle({ kind: 'no_room' })
      charged += cost
      bytes += chunk.length
      parts.add(chunk)
    }
    request.on('data', onData)
    request.once('end', () => settle({ kind: 'read', body: parts.join(), release: () => budget.give(charged) }))
    request.once('close', () => settle({ kind: 'incomplete', bytes }))
    request.once('error', () => settle({ kind: 'incomplete', bytes }))
  })
}

/** Chunks below this are gathered in blocks: a body sent byte by byte would take hundreds of times its size as objects. */
const smallChunkBytes = 1_024
const blockBytes = 16_384

function createParts() {
  const parts: Buffer[] = []
  let block: Buffer | undefined
  /** Where the block's last part begins, and where its free room does. */
  let begin = 0
  let end = 0
  const isKept = (chunk: Buffer) => parts.length === 0 || chunk.length >= smallChunkBytes
  const hasRoom = (chunk: Buffer) => block !== undefined && block.length - end >= chunk.length

  return {
    /** The memory that adding it takes. Most bodies are one chunk, kept as it is. */
    costOf: (chunk: Buffer): number => (isKept(chunk) ? chunk.length : hasRoom(chunk) ? 0 : blockBytes),
    add(chunk: Buffer): void {
      if (isKept(chunk)) {
        parts.push(chunk)
        begin = end
        return
      }
      if (!block || !hasRoom(chunk)) {
        block = Buffer.allocUnsafe(blockBytes)
        begin = end = 0
      }
      chunk.copy(block, end)
      // The part that ends where this chunk begins grows by it; after another chunk, a new part begins.
      if (end > begin) parts.pop()
      end += chunk.length
      parts.push(block.subarray(begin, end))
    },
    join: (): Buffer => (parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)),
  }
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
