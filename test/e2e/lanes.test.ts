import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answer, hang } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver({ requestsMax: 20_000 })
})
afterAll(() => receiver.stop())

const many = Array.from({ length: 40 }, (_, i) => `d${i}`)
/** Longer than it takes to see that a destination hangs: what is told apart here is told before the first timeout. */
const timeoutMs = 20_000
const stack = sharedStack(() => ({
  config: {
    sources: Object.fromEntries(many.map((name) => [name, { verification: { scheme: 'none' } }])),
    destinations: Object.fromEntries(
      many.map((name) => [name, { url: `${receiver.url}/${name}`, timeout: `${timeoutMs}ms` }]),
    ),
    connections: Object.fromEntries(
      many.map((name) => [
        name,
        { source: name, destination: name, retry: { schedule: ['1s', '1s', '1s', '1s', '5s', '5s'] } },
      ]),
    ),
  },
}))

/** The default of 512 sockets: a tenth for each destination at most, and what one comes to hold in quarantine. */
const shareMax = 51

/** Sends to each in turn at this rate, open loop. What was sent when, by path and body. */
async function sendTo(names: readonly string[], perSecond: number, ms: number): Promise<Map<string, number>> {
  const sentAt = new Map<string, number>()
  const sending: Promise<unknown>[] = []
  const begunMs = performance.now()
  let passedMs = 0
  for (let n = 0; passedMs < ms; passedMs = performance.now() - begunMs) {
    for (; n < (passedMs * perSecond) / 1_000; n++) {
      const name = names[n % names.length] ?? ''
      const body = JSON.stringify({ begunMs, n })
      sentAt.set(`/${name} ${body}`, Date.now())
      sending.push(send(stack(), name, { body }))
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  await Promise.all(sending)
  return sentAt
}

/** How long each took from being sent until it was there, in ascending order. */
async function latenciesOf(sentAt: ReadonlyMap<string, number>): Promise<number[]> {
  return until(
    () => {
      const took = receiver.received().flatMap(({ path, body, at }) => {
        const from = sentAt.get(`${path} ${body.toString()}`)
        return from === undefined ? [] : [at - from]
      })
      return took.length >= sentAt.size && took.toSorted((a, b) => a - b)
    },
    { what: `${sentAt.size} deliveries to arrive`, timeoutMs: 30_000, everyMs: 200 },
  )
}

/** Far below what a lane that waits for one attempt of a destination that hangs would show, on a machine with much else to do. */
function expectUnharmed(latencies: readonly number[]): void {
  expect(latencies[Math.floor(latencies.length * 0.5)]).toBeLessThan(500)
  expect(latencies[Math.floor(latencies.length * 0.95)]).toBeLessThan(1_500)
  expect(latencies.at(-1)).toBeLessThan(timeoutMs / 2)
}

async function backlogFor(name: string, deliveries: number): Promise<void> {
  for (let left = deliveries; left > 0; left -= 200)
    await Promise.all(
      Array.from({ length: Math.min(200, left) }, (_, n) => send(stack(), name, { body: `{"n":${n}}` })),
    )
}

async function slowDestinations(): Promise<number> {
  const { rows } = await stack().store.durable.query('SELECT FROM destinations WHERE slow_until > clock()')
  return rows.length
}

async function unfinished(name: string): Promise<number> {
  const { rows } = await stack().store.durable.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM deliveries d JOIN destinations t ON t.id = d.destination_id WHERE t.spec ->> 'name' = $1 AND d.due_at IS NOT NULL`,
    [name],
  )
  return rows[0]?.n ?? 0
}

describe('a destination that hangs with thousands waiting', () => {
  it(
    'holds no more than its share, leaves others as quick as ever, and is drained when it answers again',
    { timeout: 120_000 },
    async () => {
      const others = many.slice(1, 11)
      await latenciesOf(await sendTo(others, 50, 1_000)) // connections are opened, code is warm
      receiver.on('/d0', hang())
      await backlogFor('d0', 3_000)
      expectUnharmed(await latenciesOf(await sendTo(others, 50, 6_000)))
      // Its own tenth from the first second, and in quarantine from the sixth; nothing has timed out by then.
      expect(receiver.count('/d0')).toBeLessThanOrEqual(shareMax + 20)
      await until(slowDestinations, { what: 'it to be known as slow' })
      expectUnharmed(await latenciesOf(await sendTo(others, 50, 3_000)))
      expect(await unfinished('d0')).toBe(3_000)

      receiver.on('/d0', answer())
      await until(async () => (await unfinished('d0')) === 0, {
        what: 'its backlog to be drained',
        timeoutMs: 60_000,
        everyMs: 200,
      })
      await until(async () => (await slowDestinations()) === 0, { what: 'it to be slow no more' })
    },
  )
})

describe('when half of forty destinations stop answering at once', () => {
  it('the others get theirs as before', { timeout: 120_000 }, async () => {
    const [hanging, healthy] = [many.slice(0, 20), many.slice(20)]
    await latenciesOf(await sendTo(many, 80, 1_000))
    for (const name of hanging) receiver.on(`/${name}`, hang())
    const [sent] = await Promise.all([sendTo(healthy, 60, 12_000), sendTo(hanging, 80, 12_000)])
    expectUnharmed(await latenciesOf(sent))
  })
})
