/**
 * The destination of all benchmark deliveries, in a process of its own: counts each (event, path) once, and measures
 * from the stamp in the body. A request of an earlier run is a stray and counts for nothing. Paths may be told to hang: their
 * requests are read and never answered.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { nowUs } from './clock.ts'
import { startHistogram } from './histogram.ts'
import type { Latency, LatencyHistogram } from './histogram.ts'
import { createSeen } from './seen.ts'
import type { Seen } from './seen.ts'
import { readStamp } from './stamp.ts'
import { answerQuestions } from './worker.ts'

export type Window = { fromUs: number; toUs: number }
export type SinkQuestion =
  /** `hangFrom`: this path and all after it hang from the window's beginning on, also after its end. */
  | { kind: 'begin'; run: number; window: Window; hangFrom?: number }
  /** Another window of the same run: what arrived before stays counted, and known. */
  | { kind: 'window'; window: Window }
  | { kind: 'report' }
export type SinkReport = {
  url: string
  /** First arrivals since the run began; `arrivedByWindowEnd` leaves out what came after the window. */
  arrived: number
  arrivedByWindowEnd: number
  arrivedInWindow: number
  /** The same event again at the same path. */
  repeats: number
  strays: number
  /** Requests left to hang since the run began, and the most of them that were open at once. */
  hung: { requests: number; openMost: number }
  /** Of events meant to be sent inside the window, whenever they arrived: a backlog shows here, it isn't cut off. */
  endToEnd: Latency | null
}

/** Events of one run that can be told apart; a bit each, for each path. */
const eventsMax = 8_000_000
/** Paths are `/0` to `/255`. */
const pathsMax = 256

type Run = Omit<SinkReport, 'url' | 'strays' | 'endToEnd'> & {
  number: number
  window: Window
  hangFrom: number
  seen: Map<number, Seen>
  latency: LatencyHistogram
}

let url = ''
let strays = 0
let hanging = 0
let current = newRun(0, { fromUs: 0, toUs: 0 }, Infinity)

function newRun(number: number, window: Window, hangFrom: number): Run {
  return {
    number,
    window,
    hangFrom,
    arrived: 0,
    arrivedByWindowEnd: 0,
    arrivedInWindow: 0,
    repeats: 0,
    hung: { requests: 0, openMost: 0 },
    seen: new Map(),
    latency: startHistogram(),
  }
}

function arrive(path: number, body: Buffer): void {
  const arrivedUs = nowUs()
  const stamp = readStamp(body)
  if (stamp === undefined || stamp.run !== current.number || stamp.number >= eventsMax || !(path < pathsMax)) {
    strays++
    return
  }
  const seen = current.seen.get(path) ?? createSeen()
  current.seen.set(path, seen)
  if (!seen.add(stamp.number)) {
    current.repeats++
    return
  }
  const { fromUs, toUs } = current.window
  current.arrived++
  if (arrivedUs < toUs) current.arrivedByWindowEnd++
  if (arrivedUs >= fromUs && arrivedUs < toUs) current.arrivedInWindow++
  if (stamp.intendedUs >= fromUs && stamp.intendedUs < toUs) current.latency.record(arrivedUs - stamp.intendedUs)
}

/** Until the sender gives up. */
function hang(request: IncomingMessage, response: ServerResponse): void {
  const { hung } = current
  hung.requests++
  hanging++
  hung.openMost = Math.max(hung.openMost, hanging)
  response.once('close', () => hanging--)
  request.resume()
}

function report(): SinkReport {
  const { arrived, arrivedByWindowEnd, arrivedInWindow, repeats, hung, latency } = current
  return { url, arrived, arrivedByWindowEnd, arrivedInWindow, repeats, strays, hung, endToEnd: latency.latency() }
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'GET') {
    response.end(String(current.arrived)) // how far delivery is, for a generator that keeps step with it
    return
  }
  const path = Number(request.url?.slice(1))
  if (path >= current.hangFrom && nowUs() >= current.window.fromUs) {
    hang(request, response)
    return
  }
  let body: Buffer | undefined
  request.on('data', (chunk: Buffer) => (body = body === undefined ? chunk : Buffer.concat([body, chunk])))
  request.on('end', () => {
    if (body !== undefined) arrive(path, body)
    response.writeHead(200, { 'content-length': 0 })
    response.end()
  })
}

const server = createServer({ keepAliveTimeout: 0 }, serve)
await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 }, resolve))
const address = server.address()
if (address === null || typeof address === 'string') throw new Error('the sink has no port')
url = `http://127.0.0.1:${address.port}`

answerQuestions<SinkQuestion, SinkReport>((question) => {
  if (question.kind === 'begin') {
    current = newRun(question.run, question.window, question.hangFrom ?? Infinity)
    strays = 0
  }
  if (question.kind === 'window') {
    current = {
      ...current,
      window: question.window,
      arrivedByWindowEnd: current.arrived,
      arrivedInWindow: 0,
      latency: startHistogram(),
    }
  }
  return report()
})
