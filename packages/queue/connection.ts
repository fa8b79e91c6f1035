import { Queue } from 'bullmq'
import { Redis, type RedisOptions } from 'ioredis'

import { queuePrefix, type QueueName } from './names.ts'

/** The two levels this package writes; a pino logger fits. */
export type QueueLog = Readonly<{
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}>

/** A connection that mends itself. `up` is a fact of this moment; `close` is final and idempotent. */
export type RedisLink = Readonly<{ client: Redis; up(): boolean; close(): void }>

const connectTimeoutMs = 2_000
const reconnectWaitMsMax = 2_000
/** A socket silent for this long while a reply is due is destroyed: commands fail, and a stopped Redis is seen as down. */
const failFastReplyMs = 1_000
/** Must exceed the longest blocking read (`drainDelay` plus BullMQ's watchdog of 1 s), or idle workers reconnect for ever. */
const patientReplyMs = 20_000

const common = {
  connectTimeout: connectTimeoutMs,
  retryStrategy: (tries: number) => Math.min(50 * 2 ** Math.min(tries, 6), reconnectWaitMsMax),
  disableClientInfo: true,
} satisfies RedisOptions

/** For producers and readers: nothing is queued for a Redis that isn't there, nothing is sent twice. */
const failFast = {
  ...common,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  socketTimeout: failFastReplyMs,
} satisfies RedisOptions

/** For workers: BullMQ wants commands to wait for the connection (`maxRetriesPerRequest: null`). */
const patient = {
  ...common,
  maxRetriesPerRequest: null,
  socketTimeout: patientReplyMs,
} satisfies RedisOptions

/**
 * Opens a connection and writes one line when it goes down and one when it is up again. It never
 * throws and never emits an unhandled 'error': Redis may be away for as long as it likes.
 * `url` carries user, password, database and TLS (`rediss:`).
 */
export function openRedis(params: { url: string; log: QueueLog; role: string; kind: 'fail-fast' | 'patient' }): RedisLink {
  const { log, role } = params
  const client = new Redis(params.url, params.kind === 'fail-fast' ? failFast : patient)
  let state: 'new' | 'up' | 'down' = 'new'
  let closed = false
  let reason = 'connection closed'
  const goDown = () => {
    if (state === 'down' || closed) return
    state = 'down'
    log.warn({ role, reason }, 'redis is down')
  }
  client.on('error', (error: Error) => {
    reason = error.message
    if (state === 'new') goDown()
  })
  client.on('close', goDown)
  client.on('ready', () => {
    if (state === 'down') log.info({ role }, 'redis is up again')
    state = 'up'
    reason = 'connection closed'
  })
  return {
    client,
    up: () => client.status === 'ready',
    close: () => {
      closed = true
      client.disconnect()
    },
  }
}

/** One end of a queue that fails as fast as its link: it neither waits for a Redis that may not come nor writes BullMQ's own notes. */
export function openQueue(link: RedisLink, name: QueueName): Queue {
  const queue = new Queue(name, {
    connection: link.client,
    prefix: queuePrefix,
    skipWaitingForReady: true,
    skipVersionCheck: true,
    skipMetasUpdate: true,
  })
  queue.on('error', () => {}) // the link has written the line
  return queue
}
