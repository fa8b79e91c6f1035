import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig, startLoad } from '../support/load.ts'
import type { Sent } from '../support/load.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Received, Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { sharedStack } from '../support/stack.ts'
import { checkInvariants } from './invariants.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())
const stack = sharedStack(() => ({ config: loadConfig(receiver) }))

/** What the checker says of a journal, each test's own lie told to it or to the tables. */
const check = (sent: readonly Sent[], received: readonly Received[]) =>
  checkInvariants(stack().store, { sent, received })

describe('the invariants', () => {
  it('hold of what happened, and of nothing that did not', { timeout: 30_000 }, async () => {
    const load = startLoad(stack(), { perSecond: 40 })
    await load.pass(500)
    const sent = await load.stop()
    await drained(stack().store)
    const received = receiver.received()
    const [first, ...others] = received
    const [event, ...events] = sent
    if (first === undefined || event === undefined) throw new Error('nothing was sent')
    const { durable } = stack().store

    expect(await check(sent, received)).toEqual({
      events: sent.length,
      deliveries: 2 * sent.length,
      requests: 2 * sent.length,
      repeats: 0,
    })
    await expect(check(sent, others), 'a delivery that never arrived').rejects.toThrow(/I1: .* never arrived/)
    await expect(check(sent, [...received, first]), 'one that arrived twice').rejects.toThrow(/I4: .* 2 times/)
    await expect(check(sent, [{ ...first, sha256: 'other' }, ...others]), 'other bytes').rejects.toThrow(
      /I5: .* other bytes/,
    )
    await expect(check(sent, [{ ...first, path: '/elsewhere' }, ...others]), 'another place').rejects.toThrow(
      /I2: .* arrived at \/elsewhere/,
    )
    const stranger: Received = { ...first, headers: [['webhook-id', 'dlv_nobodys']] }
    await expect(check(sent, [...received, stranger]), 'what was never committed').rejects.toThrow(
      /I2: dlv_nobodys arrived/,
    )
    const forged = received.map((one) =>
      one.path === '/signed'
        ? {
            ...one,
            headers: one.headers.map(([name, value]) => [name, name === 'webhook-timestamp' ? '1' : value] as const),
          }
        : one,
    )
    await expect(check(sent, forged), 'a signature over something else').rejects.toThrow(/I5: .* no valid signature/)
    const promised: Sent = {
      ...event,
      key: 'never seen',
      answers: [{ status: 200, id: 'evt_lost', duplicate: false, code: undefined, tookMs: 1 }],
    }
    await expect(check([promised, ...events], received), 'an event that was accepted and is gone').rejects.toThrow(
      /I1: never seen was accepted as evt_lost/,
    )
    await expect(
      check([{ ...event, sha256: 'other' }, ...events], received),
      'kept bytes that are not what was sent',
    ).rejects.toThrow(/I5: .* kept with other bytes/)

    await durable.query(
      `UPDATE deliveries SET state = 'pending', due_at = clock() + interval '1 hour', finished_at = NULL WHERE id = (SELECT min(id) FROM deliveries)`,
    )
    await expect(check(sent, received), 'a delivery that has not ended').rejects.toThrow(/I6: .* is pending/)
    await durable.query(`DELETE FROM deliveries WHERE state = 'pending'`)
    await expect(check(sent, received), 'one delivery fewer than connections').rejects.toThrow(
      /I3: .* has deliveries to/,
    )
  })
})
