import { deriveDeliveryId } from '@tenterhook/schemas/ids'
import type { ConnectionId, DeliveryId, EventId } from '@tenterhook/schemas/ids'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { addConnection, addDestination, addSource, openTestStore } from '../support/store.ts'
import type { TestStore } from '../support/store.ts'
import type { ConfiguredSource } from './configure.ts'
import { createSeeder } from './seed.ts'
import { readStamp } from './stamp.ts'

let store: TestStore

beforeEach(async () => {
  store = await openTestStore()
})

afterEach(() => store.discard())

async function configured(destinations: number): Promise<ConfiguredSource> {
  const id = await addSource(store, { name: 'source' })
  const connections: ConfiguredSource['connections'][number][] = []
  for (let n = 0; n < destinations; n++) {
    const destinationId = await addDestination(store, { name: `destination-${n}` })
    connections.push({ id: await addConnection(store, id, destinationId, { name: `to-${n}` }), destinationId })
  }
  return { url: '', secret: '', id, connections }
}

it('makes what the product makes: routed events, and for each connection a delivery that is due, under a derived id', async () => {
  const seeder = createSeeder({ store, source: await configured(3), run: 5 })
  await seeder.add(1_000)
  await seeder.add(1)
  expect(seeder.added()).toBe(1_005) // whole events of three deliveries each

  const { rows: states } = await store.fast.query<{ state: string; count: string }>(
    'SELECT state, count(*) FROM events GROUP BY state',
  )
  expect(states).toEqual([{ state: 'routed', count: '335' }])
  const { rows } = await store.fast.query<{
    id: DeliveryId
    event_id: EventId
    connection_id: ConnectionId
    state: string
    due: boolean
  }>('SELECT id, event_id, connection_id, state, due_at <= clock() AND expires_at > clock() AS due FROM deliveries')
  expect(rows).toHaveLength(1_005)
  for (const row of rows) {
    expect(row).toMatchObject({ state: 'pending', due: true })
    expect(row.id).toBe(deriveDeliveryId(row.event_id, row.connection_id))
  }
})

it('stamps each event with a number of its own', async () => {
  const seeder = createSeeder({ store, source: await configured(1), run: 5 })
  await seeder.add(700)
  await seeder.add(20)
  const { rows } = await store.fast.query<{ body: Buffer }>('SELECT body FROM event_content')
  const stamps = rows.map(({ body }) => readStamp(body))
  expect(new Set(stamps.map((stamp) => stamp?.number)).size).toBe(720)
  expect(new Set(stamps.map((stamp) => stamp?.run))).toEqual(new Set([5]))
})
