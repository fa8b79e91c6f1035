/**
 * Owns every socket to destinations.
 *
 * Invariants:
 * 1. Never more than `socketsMax` open or opening, and never more than `socketsPerShareMax` in one share. A share is a
 *    destination at an origin: a destination that hangs keeps its own share busy and no other's, also when others live
 *    on the same host.
 * 2. One request at a time on a socket.
 * 3. A line is one undici Client over one socket for life. When the socket is gone, so is the line: undici never opens
 *    another behind our back, so what was once written is never written again.
 *
 * A place is the right to use one socket of a share. Idle sockets are kept; the least recently used one is closed when
 * another share needs its place. Who finds no place waits, shares in turn, for a bounded time.
 */
import type { Socket } from 'node:net'
import { Client } from 'undici'
import type { Abandoned } from './outcome.ts'

export type Line = {
  client: Client
  socket: Socket
  address: string
  /** By the monotonic clock. */
  openedMs: number
  /** How often it went to the next of its own share while others waited. */
  turns: number
}

export type Place = {
  kind: 'place'
  /** An open socket from an earlier request; undefined when one must be opened. */
  line: Line | undefined
  /** Gives the place back, once. A line that is handed over is kept for the next request if its socket still lives. */
  leave(line?: Line): void
}

export type Sockets = {
  enter(share: string, signal: AbortSignal): Promise<Place | Abandoned>
  /** `origin`: scheme, host and port; `socket`: connected, with an error listener. */
  createLine(origin: string, socket: Socket, address: string): Line
  /** Closes what is idle, and what becomes idle from now on; who waits is turned away. */
  close(): void
}

/** Servers that name no time for idle sockets mostly close them after five seconds; writing into a closing socket loses an attempt. */
const idleTimeoutMs = 4_000
/** The longest idle time that a server's Keep-Alive header can ask for. */
const idleTimeoutMaxMs = 60_000
/** A busy socket is replaced after this, so that a changed address is found without a pause in traffic. */
const lineAgeMaxMs = 300_000
const responseHeadersBytesMax = 65_536
const waitersMax = 10_000
/** With every socket in use, a share keeps one for so many requests before others get its place: each change is a new connection. */
const turnsMax = 4

type Share = { key: string; open: number; idle: Line[]; waiting: Waiter[] }
type Waiter = { settle(result: Place | Abandoned): void }

export type SocketsOptions = {
  monotonicMs: () => number
  socketsMax: number
  socketsPerShareMax: number
  waitTimeoutMs: number
}

export function createSockets({ monotonicMs, socketsMax, socketsPerShareMax, waitTimeoutMs }: SocketsOptions): Sockets {
  const shares = new Map<string, Share>()
  /** Least recently used first. */
  const idle = new Map<Line, Share>()
  /** Shares with waiters, in the order in which they get the next free place. */
  const crowded = new Set<Share>()
  let open = 0
  let waiters = 0
  let closed = false

  function shareOf(key: string): Share {
    const share = shares.get(key) ?? { key, open: 0, idle: [], waiting: [] }
    shares.set(key, share)
    return share
  }

  function forgetIfUnused(share: Share): void {
    if (share.open === 0 && share.waiting.length === 0) shares.delete(share.key)
  }

  /** Takes an idle line back; it keeps its place. */
  function wake(line: Line, share: Share): void {
    idle.delete(line)
    share.idle.splice(share.idle.lastIndexOf(line), 1)
  }

  /** Closes a line and frees its place. */
  function drop(line: Line | undefined, share: Share): void {
    if (line !== undefined) destroyLine(line)
    open--
    share.open--
  }

  /** An idle line of the share, or the right to open one; nothing when invariant 1 says no. */
  function take(share: Share): { line: Line | undefined } | undefined {
    for (let line = share.idle.at(-1); line !== undefined; line = share.idle.at(-1)) {
      wake(line, share)
      if (!line.socket.destroyed) return { line }
      drop(line, share)
    }
    if (share.open >= socketsPerShareMax) return undefined
    if (open >= socketsMax) {
      const [oldest] = idle
      if (oldest === undefined) return undefined
      const [line, owner] = oldest
      wake(line, owner)
      drop(line, owner)
      forgetIfUnused(owner)
    }
    open++
    share.open++
    return { line: undefined }
  }

  /** Gives free places to those who wait, one share after the other. */
  function serve(): void {
    for (const share of crowded) {
      const taken = take(share)
      if (taken === undefined) continue
      crowded.delete(share)
      share.waiting.shift()?.settle(placeOf(share, taken.line))
      if (share.waiting.length > 0) crowded.add(share)
    }
  }

  function placeOf(share: Share, line: Line | undefined): Place {
    let left = false
    return {
      kind: 'place',
      line,
      leave(kept) {
        if (left) return
        left = true
        if (kept === undefined || kept.socket.destroyed || closed || monotonicMs() - kept.openedMs > lineAgeMaxMs) {
          drop(kept, share)
          forgetIfUnused(share)
        } else if (share.waiting.length > 0 && kept.turns < turnsMax) {
          kept.turns++
          share.waiting.shift()?.settle(placeOf(share, kept))
          if (share.waiting.length === 0) crowded.delete(share)
          return
        } else {
          kept.turns = 0
          share.idle.push(kept)
          idle.set(kept, share)
        }
        if (waiters > 0) serve()
      },
    }
  }

  function wait(share: Share, signal: AbortSignal): Promise<Place | Abandoned> {
    const { promise, resolve } = Promise.withResolvers<Place | Abandoned>()
    const waiter: Waiter = {
      settle(result) {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        waiters--
        resolve(result)
      },
    }
    const giveUp = (result: Abandoned) => {
      share.waiting.splice(share.waiting.indexOf(waiter), 1)
      if (share.waiting.length === 0) crowded.delete(share)
      forgetIfUnused(share)
      waiter.settle(result)
    }
    const stop = () => giveUp({ kind: 'abandoned', code: 'aborted', detail: 'stopped while waiting for a socket' })
    const timer = setTimeout(
      () => giveUp({ kind: 'abandoned', code: 'no_socket', detail: `no socket came free within ${waitTimeoutMs} ms` }),
      waitTimeoutMs,
    )
    signal.addEventListener('abort', stop, { once: true })
    waiters++
    share.waiting.push(waiter)
    crowded.add(share)
    return promise
  }

  /** The other side closed an idle line, or it was idle for too long. */
  function discardIdle(line: Line): void {
    const share = idle.get(line)
    if (share === undefined) return
    wake(line, share)
    drop(line, share)
    forgetIfUnused(share)
    if (waiters > 0) serve()
  }

  return {
    async enter(key, signal) {
      if (closed) return turnedAway
      if (waiters >= waitersMax)
        return { kind: 'abandoned', code: 'no_socket', detail: `${waitersMax} requests wait for a socket` }
      const share = shareOf(key)
      const taken = share.waiting.length === 0 ? take(share) : undefined
      return taken === undefined ? wait(share, signal) : placeOf(share, taken.line)
    },

    createLine(origin, socket, address) {
      const line: Line = { client: clientOver(socket, origin), socket, address, openedMs: monotonicMs(), turns: 0 }
      socket.once('close', () => discardIdle(line))
      return line
    },

    close() {
      closed = true
      for (const [line] of idle) discardIdle(line)
      for (const share of crowded) for (const waiter of share.waiting.splice(0)) waiter.settle(turnedAway)
      crowded.clear()
    },
  }
}

const turnedAway: Abandoned = { kind: 'abandoned', code: 'closing', detail: 'the sender is closing' }

/** The client alone is not enough: it doesn't know its socket before its first request. */
export function destroyLine({ client, socket }: Line): void {
  void client.destroy()
  socket.destroy()
}

/** A line's socket was closed by the other side before a request was written to it. */
export class SocketGoneError extends Error {
  readonly code = 'socket_gone'
}

function clientOver(socket: Socket, origin: string): Client {
  let attached = false
  return new Client(origin, {
    // Called for the first request, and again should undici want another socket (invariant 3).
    connect(_options, callback) {
      const first = !attached
      attached = true
      queueMicrotask(() =>
        first ? callback(null, socket) : callback(new SocketGoneError('the socket was closed'), null),
      )
    },
    allowH2: false,
    pipelining: 1,
    keepAliveTimeout: idleTimeoutMs,
    keepAliveMaxTimeout: idleTimeoutMaxMs,
    maxHeaderSize: responseHeadersBytesMax,
    // The attempt has one deadline (send.ts); a second set of timers would only disagree with it.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
}
