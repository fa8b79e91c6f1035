import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { deriveDeliveryId, eventId, lowestIdAt, newId, timeOfId, type ConnectionId } from './ids.ts'

const times = fc.integer({ min: 0, max: 2 ** 48 - 1 })

describe('ids', () => {
  test('are a UUIDv7 in base32: time, version and variant where RFC 9562 has them', () => {
    fc.assert(
      fc.property(times, fc.uint8Array({ minLength: 10, maxLength: 10 }), (ms, random) => {
        const id = newId('evt', ms, () => Buffer.from(random))
        const bits = Array.from(id.slice(4)).reduce(
          (sum, char) => (sum << 5n) | BigInt('0123456789abcdefghjkmnpqrstvwxyz'.indexOf(char)),
          0n,
        )
        const hex = bits.toString(16).padStart(32, '0')
        expect(hex.slice(0, 12)).toBe(ms.toString(16).padStart(12, '0'))
        expect(hex[12]).toBe('7')
        expect('89ab').toContain(hex[16])
        expect(Buffer.from(hex.slice(14, 16) + hex.slice(18), 'hex')).toEqual(
          Buffer.from([...random.slice(1, 2), ...random.slice(3)]),
        )
        expect(eventId.safeParse(id).success).toBe(true)
        expect(timeOfId(id)).toBe(ms)
      }),
    )
  })

  test('sort by the millisecond they were made at, and lie above its lowest id', () => {
    fc.assert(
      fc.property(times, times, (a, b) => {
        const [x, y] = [newId('evt', a), newId('evt', b)]
        if (a !== b) expect(x < y).toBe(a < b)
        expect(x >= lowestIdAt('evt', a)).toBe(true)
        expect(x < lowestIdAt('evt', a + 1)).toBe(true)
      }),
    )
  })

  test('are new each time', () => {
    expect(new Set(Array.from({ length: 10_000 }, () => newId('evt', 0))).size).toBe(10_000)
  })

  test.each([
    '',
    'evt_',
    'dlv_01k0000000000000000000000',
    'evt_81k00000000000000000000000',
    'evt_01K00000000000000000000000',
  ])('%j is none', (text) => {
    expect(eventId.safeParse(text).success).toBe(false)
  })
})

describe('the id of a delivery', () => {
  const event = newId('evt', 1_000)
  const [one, other] = ['con_a', 'con_b'] as ConnectionId[]
  if (!one || !other) throw new Error('two connections')

  test('is the same whenever it is derived from the same event and connection, and differs otherwise', () => {
    expect(deriveDeliveryId(event, one)).toBe(deriveDeliveryId(event, one))
    const derived = [
      deriveDeliveryId(event, one),
      deriveDeliveryId(event, other),
      deriveDeliveryId(newId('evt', 1_000), one),
      deriveDeliveryId(event, one, { key: 'k', nowMs: 1_000 }),
    ]
    expect(new Set(derived).size).toBe(derived.length)
  })

  test('lies in its event\u2019s time, that of a replay in the request\u2019s', () => {
    expect(timeOfId(deriveDeliveryId(event, one))).toBe(1_000)
    expect(timeOfId(deriveDeliveryId(event, one, { key: 'k', nowMs: 5_000 }))).toBe(5_000)
  })
})
