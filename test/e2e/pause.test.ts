import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { api } from '../support/api.ts'
import { answer } from '../support/behaviours.ts'
import { metricOf } from '../support/metrics.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { deliveriesOf } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

/** Pause, resume and the breaker, as an operator sees and moves them: what is held waits, and what isn't goes on. */
vi.setConfig({ testTimeout: 60_000 })
const timeoutMs = 30_000

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const rate = 25
const stack = sharedStack(() => ({
  services: ['ingest', 'router', 'dispatcher', 'console'],
  config: {
    sources: Object.fromEntries(
      ['imports', 'live', 'paced', 'ill', 'other'].map((name) => [name, { verification: { scheme: 'none' as const } }]),
    ),
    destinations: {
      crm: { url: `${receiver.url}/crm` },
      paced: { url: `${receiver.url}/paced`, limits: { perSecond: rate, concurrency: 1 } },
      ill: { url: `${receiver.url}/ill` },
      other: { url: `${receiver.url}/other` },
    },
    connections: {
      imports: { source: 'imports', destination: 'crm' },
      live: { source: 'live', destination: 'crm' },
      paced: { source: 'paced', destination: 'paced' },
      ill: {
        source: 'ill',
        destination: 'ill',
        retry: { schedule: Array.from({ length: 50 }, () => '400ms'), jitter: 0 },
      },
      other: { source: 'other', destination: 'other' },
    },
  },
}))

async function accept(source: string, body: string): Promise<string> {
  const accepted = await send(stack(), source, { body })
  expect(accepted.status).toBe(200)
  return String(accepted.json['id'])
}

async function acceptMany(source: string, count: number): Promise<string[]> {
  const bodies = Array.from({ length: count }, (_, i) => `${source} ${i}`)
  // One after the other, so that the order of arrival is known.
  for (const body of bodies) await accept(source, body)
  return bodies
}

const arrivedAt = (path: string) => receiver.received(path).map(({ body }) => body.toString())

async function act(path: string, body?: object): Promise<Record<string, unknown>> {
  const { status, json } = await api(stack(), 'POST', path, body === undefined ? {} : { body })
  expect(status, JSON.stringify(json)).toBe(200)
  return json
}

async function held(query: string): Promise<Record<string, unknown>[]> {
  return (await api(stack(), 'GET', `/deliveries?state=held&limit=200&${query}`)).json['data'] as Record<
    string,
    unknown
  >[]
}

function untilHeld(query: string, count: number) {
  return until(async () => (await held(query)).length === count && held(query), { what: `${count} held`, timeoutMs })
}

/** Proof that time went by and what could be delivered was. */
async function meanwhile(source: string, path: string): Promise<void> {
  const body = `${source} meanwhile ${receiver.count()}`
  await accept(source, body)
  await until(() => arrivedAt(path).includes(body), { what: `${body} at ${path}`, timeoutMs })
}

describe('a paused connection', () => {
  it('holds what is its own, while others of its destination flow; resumed, it is drained in order of arrival', async () => {
    await act('/connections/imports/pause', { reason: 'after hours only' })
    const bodies = await acceptMany('imports', 12)
    const waiting = await untilHeld('connection=imports', bodies.length)
    expect(waiting[0]).toMatchObject({
      state: 'pending',
      attempts: 0,
      heldBy: { kind: 'connection_paused', reason: 'after hours only' },
    })
    for (let i = 0; i < 3; i++) await meanwhile('live', '/crm')
    expect(arrivedAt('/crm').filter((body) => bodies.includes(body))).toEqual([])
    expect(await held('connection=live')).toEqual([])
    expect((await api(stack(), 'GET', '/connections/imports')).json).toMatchObject({ paused: true })

    const resumedMs = Date.now()
    expect(await act('/connections/imports/resume')).toMatchObject({ paused: false, pauseReason: null })
    await until(() => bodies.every((body) => arrivedAt('/crm').includes(body)), { what: 'all imports', timeoutMs })
    expect(await held('connection=imports')).toEqual([])
    const leases = await leasesOf('imports')
    expect(leases.map(({ seq }) => seq)).toEqual(leases.map(({ seq }) => seq).toSorted((a, b) => a - b))
    expect(leases.every(({ atMs }) => atMs >= resumedMs - 1_000)).toBe(true)
  })
})

/** The attempts of a connection in the order of their leases, those of one moment in the order of arrival. */
async function leasesOf(connection: string): Promise<{ seq: number; atMs: number }[]> {
  const { rows } = await stack().store.durable.query<{ seq: string; at: number }>(
    `SELECT d.seq, (extract(epoch FROM a.leased_at) * 1000)::float8 AS at FROM attempts a
       JOIN deliveries d ON d.id = a.delivery_id JOIN connections n ON n.id = d.connection_id
     WHERE n.name = $1 ORDER BY a.leased_at, d.seq`,
    [connection],
  )
  return rows.map(({ seq, at }) => ({ seq: Number(seq), atMs: at }))
}

describe('a paused destination', () => {
  it('holds everything; resumed, it is drained at the allowed rate, in order of arrival', async () => {
    expect(await act('/destinations/paced/pause')).toMatchObject({ paused: true, health: { state: 'closed' } })
    const bodies = await acceptMany('paced', 3 * rate)
    const waiting = await untilHeld('destination=paced', bodies.length)
    expect(waiting[0]).toMatchObject({ heldBy: { kind: 'destination_paused' }, attempts: 0 })
    expect((await api(stack(), 'GET', '/destinations/paced')).json['health']).toMatchObject({
      waiting: bodies.length,
      admitted: 0,
    })
    await meanwhile('other', '/other')
    expect(arrivedAt('/paced')).toEqual([])

    await act('/destinations/paced/resume')
    await until(() => receiver.count('/paced') === bodies.length, { what: 'all that was held', timeoutMs })
    const places = arrivedAt('/paced').map((body) => bodies.indexOf(body))
    expect(places.toSorted((a, b) => a - b)).toEqual(bodies.map((_, place) => place))
    // Strict order is for a connection to ask for. Without, what the limit refused for a moment may be passed by the next
    // few: none is farther from its place than a second's worth.
    expect(Math.max(...places.map((place, at) => Math.abs(place - at)))).toBeLessThanOrEqual(rate)
    const times = (await leasesOf('paced')).map(({ atMs }) => atMs)
    const inASecond = times.map((from) => times.filter((at) => at >= from && at < from + 1_000).length)
    expect(Math.max(...inASecond)).toBeLessThanOrEqual(rate)
  })
})

describe('a breaker', () => {
  it('opens on lasting failure, is seen, kills nothing, and is closed by a resume', async () => {
    receiver.on('/ill', answer({ status: 500 }))
    const events = await Promise.all(Array.from({ length: 4 }, (_, i) => accept('ill', `ill ${i}`)))
    const health = async () =>
      (await api(stack(), 'GET', '/destinations/ill')).json['health'] as Record<string, unknown>
    const open = await until(async () => ((await health())['state'] === 'open' ? health() : false), {
      what: 'the breaker to open',
      timeoutMs: 50_000,
    })
    expect(open).toMatchObject({ lane: 'quarantine', waitsUntil: expect.any(String), failingSince: expect.any(String) })
    expect(open['failuresInRow']).toBeGreaterThanOrEqual(10)
    expect((await held('destination=ill'))[0]).toMatchObject({ heldBy: { kind: 'breaker_open' } })
    const labels = { destination: 'ill' }
    await until(
      async () => (await metricOf(stack().service('router'), 'tenterhook_destination_not_healthy', labels)) === 1,
      { what: 'the metric to tell of it', timeoutMs },
    )

    await meanwhile('other', '/other')
    receiver.on('/ill', answer())
    expect((await act('/destinations/ill/resume'))['health']).toMatchObject({
      state: 'closed',
      waitsUntil: null,
      failuresInRow: 0,
      lane: 'normal',
    })
    for (const id of events)
      await until(async () => (await deliveriesOf(stack().store, id)).every(({ state }) => state === 'delivered'), {
        what: `${id} to be delivered`,
        timeoutMs,
      })
  })
})
