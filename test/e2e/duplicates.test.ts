import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  services: ['ingest', 'ingest', 'router', 'dispatcher'],
  config: {
    sources: {
      hub: { verification: { scheme: 'github', secret: 'hub secret' } },
      brief: { verification: { scheme: 'github', secret: 'brief secret' }, dedupe: { by: 'auto', window: '10m' } },
      open: { verification: { scheme: 'none' } },
      bytes: { verification: { scheme: 'none' }, dedupe: { by: 'body', window: '1h' } },
    },
    destinations: { everything: { url: `${receiver.url}/all` } },
    connections: {
      hub: { source: 'hub', destination: 'everything' },
      brief: { source: 'brief', destination: 'everything' },
      open: { source: 'open', destination: 'everything' },
      bytes: { source: 'bytes', destination: 'everything' },
    },
  },
}))
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
})

const push = (key: string) =>
  [
    ['X-GitHub-Event', 'push'],
    ['X-GitHub-Delivery', key],
  ] as const

type Duplicate = { event_id: string; differs: boolean; body: Buffer | null }
async function duplicatesOf(eventId: unknown): Promise<Duplicate[]> {
  const { rows } = await stack().store.durable.query<Duplicate>(
    'SELECT event_id, differs, body FROM duplicates WHERE event_id = $1 ORDER BY id',
    [eventId],
  )
  return rows
}

async function countEvents(): Promise<number> {
  const { rows } = await stack().store.durable.query<{ n: number }>('SELECT count(*)::int AS n FROM events')
  return rows[0]?.n ?? 0
}

describe('duplicates', () => {
  it('a hundred equal requests at once, to two copies of ingest, are one event that all of them are told', async () => {
    const before = await countEvents()
    const origins = [stack().service('ingest').url, stack().service('ingest2').url]
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        send(stack(), 'hub', {
          headers: push('same-key'),
          body: '{"n":1}',
          ...(origins[n % 2] !== undefined && { origin: origins[n % 2] }),
        }),
      ),
    )
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(new Set(answers.map(({ json }) => json['id'])).size).toBe(1)
    expect(answers.filter(({ json }) => json['duplicate'] === true)).toHaveLength(99)
    await drained(stack().store)
    expect(await countEvents()).toBe(before + 1)
    expect(receiver.count()).toBe(1)
  })

  it('one that comes later is told the first id, and is counted beside its event', async () => {
    const first = await send(stack(), 'hub', { headers: push('later'), body: '{}' })
    await drained(stack().store)
    const second = await send(stack(), 'hub', { headers: push('later'), body: '{}' })
    expect(second).toMatchObject({ status: 200, json: { id: first.json['id'], duplicate: true } })
    const [kept] = await until(
      async () => {
        const rows = await duplicatesOf(first.json['id'])
        return rows.length > 0 && rows
      },
      { what: 'the duplicate to be noted' },
    )
    expect(kept).toMatchObject({ differs: false, body: null })
    await drained(stack().store)
    expect(receiver.count()).toBe(1)
  })

  it('one with other bytes is kept whole and flagged before it is answered, and is not delivered', async () => {
    const first = await send(stack(), 'hub', { headers: push('changed'), body: '{"amount":1}' })
    const second = await send(stack(), 'hub', { headers: push('changed'), body: '{"amount":2}' })
    expect(second).toMatchObject({ status: 200, json: { id: first.json['id'], duplicate: true } })
    expect(await duplicatesOf(first.json['id'])).toEqual([
      { event_id: first.json['id'], differs: true, body: Buffer.from('{"amount":2}') },
    ])
    await drained(stack().store)
    expect(receiver.received().map(({ body }) => body.toString())).toEqual(['{"amount":1}'])
  })

  it('other bytes under one key at once: one event, and every other version is kept', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => send(stack(), 'hub', { headers: push('ten versions'), body: `{"n":${n}}` })),
    )
    const ids = new Set(answers.map(({ json }) => json['id']))
    expect(ids.size).toBe(1)
    const kept = await duplicatesOf([...ids][0])
    await drained(stack().store)
    const arrived = receiver.received().map(({ body }) => body.toString())
    expect(arrived).toHaveLength(1)
    expect([...kept.map(({ body }) => String(body)), ...arrived].toSorted()).toEqual(
      Array.from({ length: 10 }, (_, n) => `{"n":${n}}`),
    )
  })

  it('versions beyond the bound for one event are answered and no longer kept', async () => {
    const first = await send(stack(), 'hub', { headers: push('endless'), body: '{}' })
    for (let n = 0; n < 25; n++) {
      const answer = await send(stack(), 'hub', { headers: push('endless'), body: `{"n":${n}}` })
      expect(answer).toMatchObject({ status: 200, json: { id: first.json['id'] } })
    }
    expect(await duplicatesOf(first.json['id'])).toHaveLength(20)
  })

  it('the same key is another event at another source', async () => {
    const first = await send(stack(), 'hub', { headers: push('shared'), body: '{}' })
    const second = await send(stack(), 'brief', { headers: push('shared'), body: '{}' })
    expect(second.json['duplicate']).toBeUndefined()
    expect(second.json['id']).not.toBe(first.json['id'])
  })

  it('a key is free again when its window is over', async () => {
    const first = await send(stack(), 'brief', { headers: push('windowed'), body: '{}' })
    await stack().shiftClock(9 * 60_000)
    expect((await send(stack(), 'brief', { headers: push('windowed'), body: '{}' })).json).toEqual({
      id: first.json['id'],
      duplicate: true,
    })
    await stack().shiftClock(61_000)
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => send(stack(), 'brief', { headers: push('windowed'), body: '{}' })),
    )
    expect(answers.filter(({ json }) => json['duplicate'] === undefined)).toHaveLength(1)
    expect(new Set(answers.map(({ json }) => json['id'])).size).toBe(1)
    expect(answers[0]?.json['id']).not.toBe(first.json['id'])
  })

  it('requests without a key are never duplicates, and by bytes only where the source says so', async () => {
    const open = await Promise.all([1, 2].map(() => send(stack(), 'open', { body: 'same' })))
    expect(new Set(open.map(({ json }) => json['id'])).size).toBe(2)
    const bytes = await Promise.all([1, 2].map(() => send(stack(), 'bytes', { body: 'same' })))
    expect(new Set(bytes.map(({ json }) => json['id'])).size).toBe(1)
    await drained(stack().store)
    expect(receiver.count()).toBe(3)
  })
})
