import { randomBytes } from 'node:crypto'
import { migrate } from '@tenterhook/store/migrate'
import { openStore, type Store } from '@tenterhook/store/connect'
import { connectionSpec, type ConnectionInput } from '@tenterhook/schemas/connection'
import { destinationSpec, type DestinationInput } from '@tenterhook/schemas/destination'
import { newId, type ConnectionId, type DestinationId, type EventId, type SourceId } from '@tenterhook/schemas/ids'
import { sourceSpec, type SourceInput } from '@tenterhook/schemas/source'
import { changeConfig, putConnection, putDestination, putSource } from '@tenterhook/store/config-change'
import type { NewEvent } from '@tenterhook/store/accept'
import { createHash } from 'node:crypto'
import { inject } from 'vitest'

export const testKeys = [{ id: 'k1', key: Buffer.alloc(32, 7) }]

export interface TestStore extends Store {
  schema: string
  /** Moves the protocol's clock forward; all later statements see it. */
  shiftClock(ms: number): Promise<void>
  /** Drops the schema and closes the pools. */
  discard(): Promise<void>
}

/** A migrated schema of the test's own, whose clock() can be shifted. */
export async function openTestStore(): Promise<TestStore> {
  const schema = `t_${randomBytes(6).toString('hex')}`
  const connectionString = inject('TEST_DATABASE_URL')
  await migrate({ connectionString, schema })
  const store = openStore({ connectionString, schema, applicationName: `test-${schema}` })
  let shiftedMs = 0
  return {
    ...store,
    schema,
    async shiftClock(ms) {
      shiftedMs += ms
      await store.durable.query(
        `CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now() + interval ''${shiftedMs} milliseconds'''`,
      )
    },
    async discard() {
      await store.durable.query(`DROP SCHEMA ${schema} CASCADE`)
      await store.close()
    },
  }
}

export async function addSource(store: Store, input: Partial<SourceInput> & { name: string }): Promise<SourceId> {
  const id = newId('src', Date.now())
  await changeConfig(store.durable, (change) =>
    putSource(
      change,
      { id, spec: sourceSpec.parse({ verification: { scheme: 'none' }, ...input }), managedBy: 'test' },
      testKeys,
    ),
  )
  return id
}

export async function addDestination(
  store: Store,
  input: Partial<DestinationInput> & { name: string },
): Promise<DestinationId> {
  const id = newId('dst', Date.now())
  await changeConfig(store.durable, (change) =>
    putDestination(
      change,
      { id, spec: destinationSpec.parse({ url: 'http://127.0.0.1:9/', ...input }), managedBy: 'test' },
      testKeys,
    ),
  )
  return id
}

export async function addConnection(
  store: Store,
  sourceId: SourceId,
  destinationId: DestinationId,
  input: Partial<ConnectionInput> & { name: string },
): Promise<ConnectionId> {
  const id = newId('con', Date.now())
  await changeConfig(store.durable, (change) =>
    putConnection(change, {
      id,
      sourceId,
      destinationId,
      spec: connectionSpec.parse({ source: 'any', destination: 'any', ...input }),
      managedBy: 'test',
    }),
  )
  return id
}

export function newEvent(
  sourceId: SourceId,
  overrides: Partial<NewEvent> & { key?: string } = {},
): NewEvent & { id: EventId } {
  const { key, ...rest } = overrides
  const body = rest.body ?? Buffer.from('{}')
  return {
    id: newId('evt', Date.now()),
    sourceId,
    sourceVersion: 1,
    keyHash: key === undefined ? null : createHash('sha256').update(key).digest(),
    bodyHash: key === undefined ? null : createHash('sha256').update(body).digest(),
    dedupeWindowMs: 3_600_000,
    type: null,
    method: 'POST',
    path: '',
    query: '',
    headers: '[]',
    traceparent: null,
    remoteAddress: null,
    receivedAtMs: Date.now(),
    ...rest,
    body,
  }
}

/** What routing knows of an accepted event, as its claim would have read it. */
export async function readRouted(
  store: Store,
  eventId: EventId,
): Promise<{ eventId: EventId; sourceId: SourceId; seq: string }> {
  const { rows } = await store.fast.query<{ source_id: SourceId; seq: string }>({
    text: 'SELECT source_id, seq FROM events WHERE id = $1',
    values: [eventId],
  })
  if (!rows[0]) throw new Error(`there is no event ${eventId}`)
  return { eventId, sourceId: rows[0].source_id, seq: rows[0].seq }
}
