import type { Log } from '@tenterhook/telemetry/log'
import { Queue } from 'bullmq'
import { Redis, type RedisOptions } from 'ioredis'
import { queuePrefix, type QueueName } from './names.ts'

export type QueueLog = Pick<Log, 'info' | 'warn'>

/** A connection that mends itself. `up` is a fact of this moment; `close` is final and idempotent. */
export type RedisLink = Readonly<{ client: Redis; up(): boolean; close(): void }>

const connectTimeoutMs = 2_000
const reconnectWaitMsMin = 50
const reconnectWaitMsMax = 2_000
/** A socket silent for this long while a reply is due is destroyed and its commands fail: how a stopped Redis or a cut network is seen. */
const failFastReplyMs = 1_000
/** The same for workers. Longer than their blocking read and BullMQ's own watchdog over it, or idle workers reconnect for ever. */
const patientReplyMs = 20_000

const everyLink = {
  connectTimeout: connectTimeoutMs,
  retryStrategy: (tries: number) => Math.min(reconnectWaitMsMin * 2 ** Math.min(tries - 1, 10), reconnectWaitMsMax),
  disableClientInfo: true,
} satisfies RedisOptions

/** For producers and readers: nothing waits for a Redis that isn't there, and nothing is sent twice. */
const failFast = {
  ...everyLink,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  socketTimeout: failFastReplyMs,
} satisfies RedisOptions

/** For workers: BullMQ refuses anything but commands that wait for the connection. */
const patient = {
  ...everyLink,
  maxRetriesPerRequest: null,
  socketTimeout: patientReplyMs,
} satisfies RedisOptions

/**
 * Opens a connection and writes one line when it goes down and one when it is up again. Never throws on
 * a Redis that is away, however long, and never lets an 'error' event end the process.
 * `url` carries user, password, database and TLS (`rediss:`).
 */
export function openRedis(params: {
  url: string
  log: QueueLog
  role: string
  kind: 'fail-fast' | 'patient'
}): RedisLink {
  const { log, role } = params
  const client = new Redis(params.url, params.kind === 'fail-fast' ? failFast : patient)
  let state: 'new' | 'up' | 'down' | 'closed' = 'new'
  let reason = 'connection closed'

  const goDown = () => {
    if (state === 'down' || state === 'closed') return
    state = 'down'
    log.warn({ event: 'redis.down', role, reason })
  }
  client.on('error', (error: Error) => {
    reason = error.message
    if (state === 'new') goDown()
  })
  client.on('close', goDown)
  client.on('ready', () => {
    if (state === 'down') log.info({ event: 'redis.up', role })
    if (state !== 'closed') state = 'up'
    reason = 'connection closed'
  })

  return {
    client,
    up: () => state === 'up',
    close() {
      state = 'closed'
      client.disconnect()
    },
  }
}

/** One end of a queue, as quick to fail as its link: it neither waits for a Redis that may not come nor writes BullMQ's own notes. */
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
