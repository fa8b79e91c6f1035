import { expect, test } from 'vitest'
import { createTryLimit } from './try-limit.ts'

function limitAt(start = 0) {
  const clock = { ms: start }
  return { clock, limit: createTryLimit({ monotonicMs: () => clock.ms }) }
}

function wrongTimes(limit: ReturnType<typeof limitAt>['limit'], address: string, times: number): void {
  for (let i = 0; i < times; i++) limit.wrong(address)
}

test('an address has ten wrong tries, then one every six seconds', () => {
  const { clock, limit } = limitAt()
  wrongTimes(limit, '192.0.2.1', 9)
  expect(limit.waitMs('192.0.2.1')).toBe(0)
  limit.wrong('192.0.2.1')
  expect(limit.waitMs('192.0.2.1')).toBe(6_000)
  clock.ms += 5_999
  expect(limit.waitMs('192.0.2.1')).toBe(1)
  clock.ms += 1
  expect(limit.waitMs('192.0.2.1')).toBe(0)
  limit.wrong('192.0.2.1')
  expect(limit.waitMs('192.0.2.1')).toBe(6_000)
})

test('one address does not use up another’s tries', () => {
  const { limit } = limitAt()
  wrongTimes(limit, '192.0.2.1', 20)
  expect(limit.waitMs('192.0.2.2')).toBe(0)
})

test.each([
  ['2001:db8:0:1::1', '2001:db8:0:1:ffff::2'],
  ['2001:db8::1', '2001:db8:0:0:1::'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['fe80::1%eth0', 'fe80::2%eth0'],
])('%s and %s are one site', (one, other) => {
  const { limit } = limitAt()
  wrongTimes(limit, one, 10)
  expect(limit.waitMs(other)).toBeGreaterThan(0)
})

test.each([
  ['2001:db8:0:1::1', '2001:db8:0:2::1'],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.2'],
  ['::1', '1::'],
])('%s and %s are two sites', (one, other) => {
  const { limit } = limitAt()
  wrongTimes(limit, one, 10)
  expect(limit.waitMs(other)).toBe(0)
})

test('ten thousand addresses are remembered, the one seen longest ago is forgotten first', () => {
  const { limit } = limitAt()
  wrongTimes(limit, '192.0.2.1', 10)
  for (let i = 0; i < 9_999; i++) limit.wrong(`10.0.${i >> 8}.${i & 255}`)
  expect(limit.waitMs('192.0.2.1')).toBeGreaterThan(0)
  limit.wrong('10.1.0.0')
  expect(limit.waitMs('192.0.2.1')).toBe(0)
})
