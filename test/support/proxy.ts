/**
 * A TCP proxy between a service and its Postgres or Redis, with faults that a test switches at run time.
 *
 * It owns its listener and both sockets of each connection. Faults of the line (latency, blackhole) hold bytes and
 * lose none: what was held goes on, in order, when the line heals, as TCP would do it. Faults of a connection (reset,
 * half-open, cut) end it for good. What it can't do: drop a SYN. During a blackhole a new connection is
 * accepted and then silent, so it shows a query's timeout, not a connect timeout.
 */
import { createServer, connect } from 'node:net'
import type { Socket } from 'node:net'

export type FaultProxy = {
  host: string
  port: number
  /** Added to each direction. 0 heals. */
  latency(delayMs: number): void
  /** Nothing passes in either direction, and nothing is closed, until `heal()`. */
  blackhole(): void
  /** Ends latency and blackhole and accepts again on the same port. */
  heal(): Promise<void>
  /** RST to both ends of every connection open now; new ones pass. */
  reset(): void
  /** The far ends of the connections open now die without their clients being told: those write into nothing. */
  halfOpen(): void
  /** New connections are refused until `heal()`; open ones go on. */
  stopAccepting(): void
  /**
   * Cuts the next `times` connections (default 1) that send the pattern: the bytes up to the end of that chunk go to the
   * server, the server is let finish them, its reply is thrown away, and the client gets an RST once the server has
   * closed its side. So what the pattern asked for was done, and its client can't know.
   */
  cutAfter(pattern: string | Buffer, options?: { times?: number }): { count(): number; disarm(): void }
  connections(): { open: number; total: number }
  stop(): void
}

type Cut = { pattern: Buffer; left: number; done: number }
type Line = { latencyMs: number; blocked: boolean; streams: Set<() => void> }
/** through: both ways; cut: waiting for the server to finish; orphaned: the server is dead, the client isn't told. */
type Pair = { client: Socket; server: Socket; state: 'through' | 'cut' | 'orphaned'; tail: Buffer }

/** What one direction holds back under a fault before it stops reading, so that a fault can't eat the memory. */
const heldBytesMax = 4 * 1024 * 1024

export async function startFaultProxy(target: { host: string; port: number }): Promise<FaultProxy> {
  const line: Line = { latencyMs: 0, blocked: false, streams: new Set() }
  const pairs = new Set<Pair>()
  const cuts = new Set<Cut>()
  let total = 0

  function open(client: Socket): void {
    total++
    const server = connect({ ...target, noDelay: true, allowHalfOpen: true })
    const pair: Pair = { client, server, state: 'through', tail: Buffer.alloc(0) }
    pairs.add(pair)
    client.once('close', () => pairs.delete(pair))
    // Every error is followed by 'close', which carry() sees.
    for (const socket of [client, server]) socket.on('error', () => {})

    carry(line, client, server, {
      judge(bytes) {
        if (pair.state !== 'through') return 'drop'
        if (!isCut(pair, bytes)) return 'pass'
        pair.state = 'cut'
        return 'last'
      },
      ended: () => void (pair.state === 'orphaned' ? client.destroy() : server.end()),
      broken: () => void server.destroy(),
    })
    carry(line, server, client, {
      judge: () => (pair.state === 'through' ? 'pass' : 'drop'),
      ended: () => void (pair.state === 'through' ? client.end() : client.resetAndDestroy()),
      broken: () => void (pair.state === 'orphaned' || client.resetAndDestroy()),
    })
  }

  /** The pattern may lie across two chunks, so the end of what went before is kept. */
  function isCut(pair: Pair, bytes: Buffer): boolean {
    if (cuts.size === 0) return false
    const seen = Buffer.concat([pair.tail, bytes])
    const longest = Math.max(...[...cuts].map((cut) => cut.pattern.length))
    pair.tail = seen.subarray(Math.max(0, seen.length - longest + 1))
    for (const cut of cuts) {
      if (!seen.includes(cut.pattern)) continue
      cut.done++
      if (--cut.left === 0) cuts.delete(cut)
      return true
    }
    return false
  }

  const listener = createServer({ allowHalfOpen: true, noDelay: true }, open)
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen(port, '127.0.0.1', () => {
        listener.off('error', reject)
        resolve()
      })
    })
  await listen(0)
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  const { port } = address

  const release = () => {
    for (const move of line.streams) move()
  }
  // Not awaited by close()'s callback, which waits for the last connection; the port refuses from here on.
  const refuse = () => void (listener.listening && listener.close())

  const reset = () => {
    for (const { client, server } of pairs) {
      server.resetAndDestroy()
      client.resetAndDestroy()
    }
  }

  return {
    host: '127.0.0.1',
    port,
    latency(delayMs) {
      line.latencyMs = delayMs
    },
    blackhole() {
      line.blocked = true
    },
    async heal() {
      line.latencyMs = 0
      line.blocked = false
      release()
      if (!listener.listening) await listen(port)
    },
    reset,
    halfOpen() {
      for (const pair of pairs) {
        pair.state = 'orphaned'
        pair.server.destroy()
      }
    },
    stopAccepting: refuse,
    cutAfter(pattern, { times = 1 } = {}) {
      const cut: Cut = { pattern: Buffer.from(pattern), left: times, done: 0 }
      cuts.add(cut)
      return { count: () => cut.done, disarm: () => void cuts.delete(cut) }
    },
    connections: () => ({ open: pairs.size, total }),
    stop() {
      refuse()
      reset()
    },
  }
}

/** pass: forward; drop: swallow; last: forward, send FIN, and swallow what comes after. */
type Verdict = 'pass' | 'drop' | 'last'

type Course = {
  judge: (bytes: Buffer) => Verdict
  /** The sender has finished and everything it sent went on. */
  ended: () => void
  /** The sender is gone without having finished. */
  broken: () => void
}

/**
 * One direction. Chunks wait in a queue, each with the time before which it may not go on, so that latency delays a
 * stream and doesn't thin it. How the stream ends is news too, and waits behind a blackhole like the bytes.
 */
function carry(line: Line, from: Socket, to: Socket, course: Course): void {
  const held: { bytes: Buffer; notBefore: number }[] = []
  let heldBytes = 0
  let end: 'none' | 'ended' | 'broken' = 'none'
  let timer: NodeJS.Timeout | undefined

  function move(): void {
    clearTimeout(timer)
    if (line.blocked) return
    if (end === 'broken') return finish(course.broken)
    for (let next = held[0]; next !== undefined && !to.writableNeedDrain; next = held[0]) {
      const waitMs = next.notBefore - performance.now()
      if (waitMs > 0) {
        timer = setTimeout(move, Math.ceil(waitMs))
        return
      }
      held.shift()
      heldBytes -= next.bytes.length
      const verdict = course.judge(next.bytes)
      if (verdict !== 'drop' && to.writable) to.write(next.bytes)
      if (verdict === 'last') to.end()
    }
    if (heldBytes < heldBytesMax) from.resume()
    if (end === 'ended' && held.length === 0) finish(course.ended)
  }

  function finish(how: () => void): void {
    line.streams.delete(move)
    to.off('drain', move)
    how()
  }

  line.streams.add(move)
  to.on('drain', move)
  from.on('data', (bytes: Buffer) => {
    held.push({ bytes, notBefore: performance.now() + line.latencyMs })
    heldBytes += bytes.length
    if (heldBytes >= heldBytesMax) from.pause()
    move()
  })
  from.once('end', () => {
    end = 'ended'
    move()
  })
  from.once('close', (failed: boolean) => {
    if (end === 'ended' && !failed) return
    end = 'broken'
    move()
  })
}
