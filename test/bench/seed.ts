/**
 * A backlog without its senders: the very statements by which events are accepted and routed (T1, T2), called in large
 * batches and without waiting for fsync, so that a million deliveries wait after a minute in place of a quarter of an hour.
 */
import { deriveDeliveryId, newId } from '@tenterhook/schemas/ids'
import type { EventId } from '@tenterhook/schemas/ids'
import { acceptEvents } from '@tenterhook/store/accept'
import type { NewEvent } from '@tenterhook/store/accept'
import type { Store } from '@tenterhook/store/connect'
import { routeEvents } from '@tenterhook/store/route'
import type { Routing } from '@tenterhook/store/route'
import pg from 'pg'
import type { ConfiguredSource } from './configure.ts'
import { stampedBody } from './stamp.ts'

export type Seeder = {
  /** Adds at least this many, an event with a delivery for each of the source's connections at a time. */
  add(deliveries: number): Promise<void>
  added(): number
}

const eventsPerBatch = 250
const batchesAtOnce = 3
/** Any time well beyond what a batch takes from the first statement to the second: the router's sweep is to find none of it. */
const routeWaitMs = 600_000
const maxAgeMs = 7 * 86_400_000
/** All is to wait, whatever room its destination has: nothing is admitted here, so there is no job to wait for. */
const admit = false
const queueWaitMs = 0

type Seeding = {
  store: Store
  source: ConfiguredSource
  /** Stamped into the bodies, as the generator's are. */
  run: number
}

export function createSeeder({ store, source, run }: Seeding): Seeder {
  let events = 0

  async function addBatch(count: number): Promise<void> {
    const first = events
    events += count
    const batch = Array.from({ length: count }, (_, n) => newEvent(first + n))
    await acceptEvents(store.fast, batch, routeWaitMs)
    const { rows } = await store.fast.query<{ id: EventId; seq: string; version: string }>({
      text: 'SELECT e.id, e.seq, c.version FROM events e, config c WHERE e.id = ANY($1::text[])',
      values: [batch.map(({ id }) => id)],
    })
    const routed = await routeEvents(store.fast, Number(rows[0]?.version), rows.map(routingOf), queueWaitMs, admit)
    if (routed.kind !== 'routed' || routed.eventIds.length !== count)
      throw new Error(`of ${count} events of the backlog not all could be routed`)
  }

  function newEvent(number: number): NewEvent {
    const nowMs = Date.now()
    return {
      id: newId('evt', nowMs),
      sourceId: source.id,
      sourceVersion: 1,
      keyHash: null,
      bodyHash: null,
      dedupeWindowMs: 0,
      type: 'push',
      method: 'POST',
      path: '',
      query: '',
      headers: '[["content-type","application/json"],["x-github-event","push"]]',
      body: stampedBody({ run, number, intendedUs: 0 }),
      traceparent: null,
      remoteAddress: '127.0.0.1',
      receivedAtMs: nowMs,
    }
  }

  function routingOf({ id, seq }: { id: EventId; seq: string }): Routing {
    return {
      eventId: id,
      sourceId: source.id,
      seq,
      reasons: null,
      deliveries: source.connections.map((connection) => ({
        id: deriveDeliveryId(id, connection.id),
        eventId: id,
        connectionId: connection.id,
        connectionVersion: 1,
        destinationId: connection.destinationId,
        orderKey: null,
        delayMs: 0,
        maxAgeMs,
        traceparent: null,
      })),
    }
  }

  return {
    async add(deliveries) {
      let left = Math.ceil(deliveries / source.connections.length)
      const work = async () => {
        while (left > 0) {
          const count = Math.min(left, eventsPerBatch)
          left -= count
          await addBatch(count)
        }
      }
      await Promise.all(Array.from({ length: batchesAtOnce }, work))
    },
    added: () => events * source.connections.length,
  }
}

/** What loading a backlog leaves to be done later is done now, lest the measurement pay for it. */
export async function settle(databaseUrl: string): Promise<void> {
  // Not through the store's pools: their timeouts are those of short statements.
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query('VACUUM (ANALYZE)')
    await client.query('CHECKPOINT')
  } finally {
    await client.end()
  }
}
