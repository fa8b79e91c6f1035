import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectionSpec, type ConnectionInput } from '@tenterhook/schemas/connection'
import { destinationSpec, type DestinationInput } from '@tenterhook/schemas/destination'
import { deriveDeliveryId, type ConnectionId, type DestinationId, type SourceId } from '@tenterhook/schemas/ids'
import { sourceSpec, type SourceInput } from '@tenterhook/schemas/source'
import { acceptEvents } from '@tenterhook/store/accept'
import { readConfig, type Config } from '@tenterhook/store/config'
import { changeConfig, remove } from '@tenterhook/store/config-change'
import { routeEvents } from '@tenterhook/store/route'
import {
  addConnection,
  addDestination,
  addSource,
  newEvent,
  openTestStore,
  testKeys,
  type TestStore,
  readRouted,
} from '../../../test/support/store.ts'
import { applyConfig } from './apply.ts'
import type { DesiredConfig } from './file.ts'
import { planChanges, planText, summaryText } from './plan.ts'

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store.discard())
beforeEach(async () => {
  for (const table of ['deliveries', 'events', 'connections', 'destinations', 'sources', 'config_history'])
    await store.durable.query(`DELETE FROM ${table}`)
})

type Entry<T> = Omit<T, 'name'> & { renamedFrom?: string }
interface Written {
  sources?: Record<string, Entry<SourceInput>>
  destinations?: Record<string, Entry<DestinationInput>>
  connections?: Record<string, Entry<ConnectionInput>>
}

function want({ sources = {}, destinations = {}, connections = {} }: Written): DesiredConfig {
  const entries = <T extends { renamedFrom?: string }, S>(found: Record<string, T>, parse: (value: unknown) => S) =>
    Object.entries(found).map(([name, { renamedFrom, ...spec }]) => ({ spec: parse({ ...spec, name }), renamedFrom }))
  return {
    sources: entries(sources, (value) => sourceSpec.parse(value)),
    destinations: entries(destinations, (value) => destinationSpec.parse(value)),
    connections: entries(connections, (value) => connectionSpec.parse(value)),
  }
}

const apply = (written: Written, { prune = false } = {}) =>
  applyConfig(store, testKeys, want(written), { prune, nowMs: Date.now() })
const read = (): Promise<Config> => readConfig(store.durable, testKeys)

async function plan(written: Written): Promise<string> {
  return planText(planChanges(await read(), want(written)))
}

const desk = { verification: { scheme: 'github', secret: 'one' } } as const
const crm = { url: 'https://crm.example/' }
const base: Written = {
  sources: { desk },
  destinations: { crm, chat: { url: 'https://chat.example/' } },
  connections: { 'desk-to-crm': { source: 'desk', destination: 'crm' } },
}

/** An event that was routed over the connection and waits there. */
async function leaveUnfinished(config: Config): Promise<void> {
  const connection = config.connections[0]
  if (!connection) throw new Error('no connection')
  // Paused, so that it is not admitted to a queue.
  await store.durable.query('UPDATE destinations SET paused = true')
  const event = newEvent(connection.sourceId)
  await acceptEvents(store.durable, [event], 0)
  const routed = await routeEvents(
    store.fast,
    config.version,
    [
      {
        ...(await readRouted(store, event.id)),
        reasons: null,
        deliveries: [
          {
            id: deriveDeliveryId(event.id, connection.id),
            eventId: event.id,
            connectionId: connection.id,
            connectionVersion: connection.version,
            destinationId: connection.destinationId,
            orderKey: null,
            delayMs: 0,
            maxAgeMs: 60_000,
            traceparent: null,
          },
        ],
      },
    ],
    0,
    true,
  )
  expect(routed).toMatchObject({ kind: 'routed' })
}

describe('apply', () => {
  test('makes what is not there, as one version', async () => {
    const before = (await read()).version
    expect(await plan(base)).toBe(
      ['+ source desk', '+ destination crm', '+ destination chat', '+ connection desk-to-crm'].join('\n'),
    )
    const applied = await apply(base)
    expect(applied).toMatchObject({ kind: 'applied', version: before + 1 })
    const config = await read()
    expect(config.version).toBe(before + 1)
    expect(config.sources).toMatchObject([{ version: 1, managedBy: 'file', spec: { name: 'desk' } }])
    expect(config.destinations.map(({ spec }) => spec.name).toSorted()).toEqual(['chat', 'crm'])
    expect(config.connections).toMatchObject([
      {
        sourceId: config.sources[0]?.id,
        destinationId: config.destinations.find(({ spec }) => spec.name === 'crm')?.id,
      },
    ])
  })

  test('the same again changes nothing: no version, no history', async () => {
    await apply(base)
    const before = await read()
    expect(await plan(base)).toBe('nothing to change')
    expect(await apply(base)).toEqual({ kind: 'unchanged' })
    expect(await read()).toEqual(before)
    const { rows } = await store.durable.query<{ n: number }>('SELECT count(*)::int AS n FROM config_history')
    expect(rows[0]?.n).toBe(4)
  })

  test('changes only what differs, and says of a secret only that it does', async () => {
    await apply(base)
    const changed: Written = {
      ...base,
      sources: { desk: { verification: { scheme: 'github', secrets: ['two', 'one'] } } },
      destinations: { ...base.destinations, crm: { ...crm, timeout: '5s', headers: { 'X-A': 'b' } } },
    }
    expect(await plan(changed)).toBe(['~ source desk (secrets)', '~ destination crm (headers.X-A, timeout)'].join('\n'))
    await apply(changed)
    const config = await read()
    const versionOf = (name: string) =>
      [...config.sources, ...config.destinations, ...config.connections].find(({ spec }) => spec.name === name)?.version
    expect(['desk', 'crm', 'chat', 'desk-to-crm'].map(versionOf)).toEqual([2, 2, 1, 1])
    expect(config.sources[0]?.spec.verification).toMatchObject({ secrets: ['two', 'one'] })
  })

  test('a rename keeps id and history, and what points there follows', async () => {
    await apply(base)
    const before = await read()
    const renamed: Written = {
      sources: { helpdesk: { ...desk, renamedFrom: 'desk' } },
      destinations: base.destinations ?? {},
      connections: { 'desk-to-crm': { source: 'helpdesk', destination: 'crm' } },
    }
    expect(await plan(renamed)).toBe(
      ['~ source helpdesk (renamed from desk)', '~ connection desk-to-crm (source)'].join('\n'),
    )
    await apply(renamed)
    const after = await read()
    expect(after.sources).toMatchObject([{ id: before.sources[0]?.id, version: 2, spec: { name: 'helpdesk' } }])
    expect(after.connections).toMatchObject([{ id: before.connections[0]?.id, sourceId: before.sources[0]?.id }])
    // The note may stay in the file.
    expect(await apply(renamed)).toEqual({ kind: 'unchanged' })
  })

  test('names go around in steps through a third', async () => {
    const two = { a: { url: 'https://a.example/' }, b: { url: 'https://b.example/' } }
    await apply({ destinations: two })
    const before = await read()
    const idOf = (config: Config, name: string) => config.destinations.find(({ spec }) => spec.name === name)?.id
    await apply({ destinations: { c: { ...two.a, renamedFrom: 'a' }, b: two.b } })
    await apply({ destinations: { c: two.a, a: { ...two.b, renamedFrom: 'b' } } })
    await apply({ destinations: { b: { ...two.a, renamedFrom: 'c' }, a: two.b } })
    const after = await read()
    expect([idOf(after, 'a'), idOf(after, 'b')]).toEqual([idOf(before, 'b'), idOf(before, 'a')])
  })

  test('removes what the file no longer has, and only what a file made', async () => {
    const ours = await addDestination(store, { name: 'by-hand' })
    await apply(base)
    expect(await plan({})).toBe(
      ['- source desk', '- destination chat', '- destination crm', '- connection desk-to-crm'].join('\n'),
    )
    expect(await apply({})).toMatchObject({ kind: 'applied' })
    expect(await read()).toMatchObject({
      sources: [],
      connections: [],
      destinations: [{ id: ours, managedBy: 'test' }],
    })
  })

  test('a name that is free again can be taken by another', async () => {
    await apply(base)
    const before = await read()
    await apply({})
    await apply(base)
    const after = await read()
    expect(after.sources).toMatchObject([{ version: 1, spec: { name: 'desk' } }])
    expect(after.sources[0]?.id).not.toBe(before.sources[0]?.id)
  })

  test('takes over what others made under a name of the file', async () => {
    const id = await addDestination(store, { name: 'crm', url: crm.url })
    expect(await plan({ destinations: { crm } })).toBe('~ destination crm (managed by this file from now on)')
    await apply({ destinations: { crm } })
    expect((await read()).destinations).toMatchObject([{ id, managedBy: 'file', version: 2 }])
    expect(await apply({})).toMatchObject({ kind: 'applied' })
  })

  test('leads a connection to the new bearer of a name when the old one was removed by others', async () => {
    await apply(base)
    const before = await read()
    const old = before.destinations.find(({ spec }) => spec.name === 'crm')
    await changeConfig(store.durable, (change) => remove(change, 'destination', old?.id ?? ''))
    expect(await plan(base)).toBe(['+ destination crm', '~ connection desk-to-crm (destination)'].join('\n'))
    await apply(base)
    const after = await read()
    const made = after.destinations.find(({ spec }) => spec.name === 'crm')
    expect(made?.id).not.toBe(old?.id)
    expect(after.connections).toMatchObject([{ id: before.connections[0]?.id, destinationId: made?.id, version: 2 }])
  })
})

describe('apply refuses', () => {
  test('to remove what has unfinished deliveries, changing nothing, unless it may prune', async () => {
    await apply(base)
    const before = await read()
    await leaveUnfinished(before)
    const without: Written = {
      sources: { desk, extra: desk },
      destinations: { chat: { url: 'https://chat.example/' } },
    }
    const refused = await apply(without)
    expect(refused).toMatchObject({
      kind: 'refused',
      refusals: [
        { why: 'unfinished', deliveries: 1, step: { kind: 'destination', name: 'crm' } },
        { why: 'unfinished', deliveries: 1, step: { kind: 'connection', name: 'desk-to-crm' } },
      ],
    })
    expect(await read()).toEqual(before)

    expect(await apply(without, { prune: true })).toMatchObject({ kind: 'applied' })
    const { rows } = await store.durable.query<{ state: string; dead_reason: string }>(
      'SELECT state, dead_reason FROM deliveries',
    )
    expect(rows).toEqual([{ state: 'dead', dead_reason: 'destination_deleted' }])
  })

  test('but a source with unfinished deliveries may go: they don’t need it', async () => {
    await apply(base)
    await leaveUnfinished(await read())
    const connection = (await read()).connections[0]
    await changeConfig(store.durable, (change) => remove(change, 'connection', connection?.id ?? ''))
    expect(await apply({ destinations: base.destinations ?? {} })).toMatchObject({ kind: 'applied' })
  })

  test('to remove what others’ connections use, prune or not', async () => {
    await apply(base)
    const before = await read()
    const [source, destination] = [before.sources[0], before.destinations.find(({ spec }) => spec.name === 'chat')]
    await addConnection(store, source?.id as SourceId, destination?.id as DestinationId, { name: 'by-hand' })
    const standing = await read()
    for (const prune of [false, true]) {
      expect(await apply({}, { prune })).toMatchObject({
        kind: 'refused',
        refusals: [
          { why: 'in_use', connections: ['by-hand'], step: { kind: 'source', name: 'desk' } },
          { why: 'in_use', connections: ['by-hand'], step: { kind: 'destination', name: 'chat' } },
        ],
      })
    }
    expect(await read()).toEqual(standing)
  })
})

describe('two applies at once', () => {
  test('of the same file: one makes everything, the other finds it done', async () => {
    const outcomes = await Promise.all([apply(base), apply(base), apply(base)])
    expect(outcomes.map(({ kind }) => kind).toSorted()).toEqual(['applied', 'unchanged', 'unchanged'])
    expect((await read()).destinations).toHaveLength(2)
  })

  test('of two files: one after the other, never a mixture', async () => {
    const one: Written = { destinations: { a: { url: 'https://one.example/' }, b: { url: 'https://one.example/' } } }
    const two: Written = { destinations: { a: { url: 'https://two.example/' }, b: { url: 'https://two.example/' } } }
    for (let round = 0; round < 5; round++) {
      await Promise.all([apply(one), apply(two)])
      const urls = (await read()).destinations.map(({ spec }) => spec.url)
      expect(new Set(urls).size).toBe(1)
    }
  })
})

describe('a plan', () => {
  test('in one line says how much of what', async () => {
    const id = (await addSource(store, { name: 'old' })) satisfies SourceId
    await changeConfig(store.durable, (change) =>
      change.db.query({ text: `UPDATE sources SET managed_by = 'file' WHERE id = $1`, values: [id] }),
    )
    expect(summaryText(planChanges(await read(), want(base)))).toBe(
      'created 1 source, 2 destinations and 1 connection; removed 1 source',
    )
    expect(summaryText([])).toBe('nothing to change')
  })

  test('shows a filter’s change where it is', async () => {
    const filtered = (filter: ConnectionInput['filter']): Written => ({
      ...base,
      connections: { 'desk-to-crm': { source: 'desk', destination: 'crm', filter } },
    })
    await apply(filtered({ type: 'a', body: { score: { $gt: 80 } } }))
    expect(await plan(filtered({ type: 'a', body: { score: { $gt: 90 }, name: 'x' } }))).toBe(
      '~ connection desk-to-crm (filter.body.score.$gt, filter.body.name)',
    )
    const id: ConnectionId | undefined = (await read()).connections[0]?.id
    expect(id).toMatch(/^con_/)
  })
})
