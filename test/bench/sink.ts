/**
 * The destination of all benchmark deliveries, in a process of its own: counts each (event, path) once, and measures
 * from the stamp in the body. A request of an earlier run is a stray and counts for nothing.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { nowUs } from './clock.ts'
import { startHistogram } from './histogram.ts'
import type { Latency, LatencyHistogram } from './histogram.ts'
import { readStamp } from './stamp.ts'
import { answerQuestions } from './worker.ts'

export type Window = { fromUs: number; toUs: number }
export type SinkQuestion = { kind: 'begin'; run: number; window: Window } | { kind: 'report' }
export type SinkReport = {
  url: string
  /** First arrivals since the run began; `arrivedByWindowEnd` leaves out what came after the window. */
  arrived: number
  arrivedByWindowEnd: number
  arrivedInWindow: number
  /** The same event again at the same path. */
  repeats: number
  strays: number
  /** Of events meant to be sent inside the window, whenever they arrived: a backlog shows here, it isn't cut off. */
  endToEnd: Latency | null
}

/** Events of one run that can be told apart; 2 bytes each. */
const eventsMax = 8_000_000
/** Paths are `/0` to `/15`: one bit for each. */
const pathsMax = 16

type Run = Omit<SinkReport, 'url' | 'strays' | 'endToEnd'> & {
  number: number
  window: Window
  seen: Uint16Array
  latency: LatencyHistogram
}

let url = ''
let strays = 0
let current = newRun(0, { fromUs: 0, toUs: 0 })

function newRun(number: number, window: Window): Run {
  return {
    number,
    window,
    arrived: 0,
    arrivedByWindowEnd: 0,
    arrivedInWindow: 0,
    repeats: 0,
    seen: new Uint16Array(eventsMax),
    latency: startHistogram(),
  }
}

function arrive(request: IncomingMessage, body: Buffer): void {
  const arrivedUs = nowUs()
  const stamp = readStamp(body)
  const path = Number(request.url?.slice(1))
  if (stamp === undefined || stamp.run !== current.number || stamp.number >= eventsMax || !(path < pathsMax)) {
    strays++
    return
  }
  const bits = current.seen[stamp.number] ?? 0
  const bit = 1 << path
  if (bits & bit) {
    current.repeats++
    return
  }
  current.seen[stamp.number] = bits | bit
  const { fromUs, toUs } = current.window
  current.arrived++
  if (arrivedUs < toUs) current.arrivedByWindowEnd++
  if (arrivedUs >= fromUs && arrivedUs < toUs) current.arrivedInWindow++
  if (stamp.intendedUs >= fromUs && stamp.intendedUs < toUs) current.latency.record(arrivedUs - stamp.intendedUs)
}

function report(): SinkReport {
  const { arrived, arrivedByWindowEnd, arrivedInWindow, repeats, latency } = current
  return { url, arrived, arrivedByWindowEnd, arrivedInWindow, repeats, strays, endToEnd: latency.latency() }
}

function serve(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'GET') {
    response.end(String(current.arrived)) // how far delivery is, for a generator that keeps step with it
    return
  }
  let body: Buffer | undefined
  request.on('data', (chunk: Buffer) => (body = body === undefined ? chunk : Buffer.concat([body, chunk])))
  request.on('end', () => {
    if (body !== undefined) arrive(request, body)
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
    current = newRun(question.run, question.window)
    strays = 0
  }
  return report()
})
