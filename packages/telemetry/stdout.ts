import { writeSync } from 'node:fs'

/** Lines wait until this many bytes came together, so that a busy service pays one write(2) for dozens of them… */
const writeBytesMin = 16 * 1_024
/** … or until this long has passed, so that a quiet service's lines are still seen as they happen. */
const flushIntervalMs = 100
/** What a reader of stdout that hangs may cost. Later lines are dropped and counted; the service goes on. */
const bufferedBytesMax = 8 * 1_024 * 1_024
/** When what a full pipe didn't take is offered again. */
const offerAgainMs = 5
/** How long the end of the process waits for a reader that is slow. */
const lastFlushMs = 5_000

/** Where lines go: one call per line, newline included. */
export interface LineWriter {
  write(line: string): void
}

/**
 * Lines to stdout, in order, by writes that never wait: what a full pipe doesn't take stays here and is offered again.
 * One thread writes, so that what the end of the process flushes can't overtake a write that is still under way.
 */
export function openStdout(params: { onDropped: (lines: number) => void }): LineWriter & { flush(): void } {
  // Touching it makes a pipe or socket non-blocking (libuv): a reader that hangs then costs EAGAIN, not the event loop.
  const { fd } = process.stdout
  let lines: string[] = []
  let lineBytes = 0
  let unwritten: Buffer = Buffer.alloc(0)
  let full = false
  let again: NodeJS.Timeout | undefined
  let gone = false
  let dropped = 0

  function offer(): void {
    full = false
    try {
      while (unwritten.length > 0 || lines.length > 0) {
        if (unwritten.length === 0) {
          unwritten = Buffer.from(lines.join(''))
          lines = []
          lineBytes = 0
        }
        unwritten = unwritten.subarray(writeSync(fd, unwritten))
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') {
        full = true
        again ??= setTimeout(() => {
          again = undefined
          offer()
        }, offerAgainMs).unref()
      } else {
        // Nobody reads any more (EPIPE): the service goes on without.
        gone = true
        lines = []
        unwritten = Buffer.alloc(0)
      }
    }
  }

  /** For the end of the process: waits for the reader, within bounds. */
  function flush(): void {
    const turn = new Int32Array(new SharedArrayBuffer(4))
    for (let waitedMs = 0; ; waitedMs += offerAgainMs) {
      offer()
      if (!full || waitedMs >= lastFlushMs) return
      Atomics.wait(turn, 0, 0, offerAgainMs)
    }
  }

  setInterval(() => {
    offer()
    if (full || dropped === 0) return
    const count = dropped
    dropped = 0
    params.onDropped(count)
  }, flushIntervalMs).unref()
  process.on('exit', flush)

  return {
    write(line) {
      if (gone) return
      if (unwritten.length + lineBytes > bufferedBytesMax) {
        dropped += 1
        return
      }
      lines.push(line)
      lineBytes += Buffer.byteLength(line)
      if (lineBytes >= writeBytesMin && !full) offer()
    },
    flush,
  }
}
