import { expect, test } from 'vitest'
import { createTraceIds } from './trace-ids.ts'

test('ids have their length and never repeat, across blocks of random bytes', () => {
  const ids = createTraceIds()
  const traces = Array.from({ length: 2000 }, () => ids.traceId())
  const spans = Array.from({ length: 2000 }, () => ids.spanId())
  expect(traces.every((id) => /^[\da-f]{32}$/.test(id))).toBe(true)
  expect(spans.every((id) => /^[\da-f]{16}$/.test(id))).toBe(true)
  expect(new Set(traces).size).toBe(2000)
  expect(new Set(spans).size).toBe(2000)
})

test('random bytes are used once each and in their order', () => {
  let next = 0
  const ids = createTraceIds((block) => {
    for (let at = 0; at < block.length; at += 1) block[at] = next++ % 256
  })
  expect(ids.traceId()).toBe('000102030405060708090a0b0c0d0e0f')
  expect(ids.spanId()).toBe('1011121314151617')
  expect(ids.traceId()).toBe('18191a1b1c1d1e1f2021222324252627')
})

test('an id is never all zero, even from a source of nothing else', () => {
  const ids = createTraceIds((block) => block.fill(0))
  expect(ids.traceId()).toBe(`${'0'.repeat(31)}1`)
  expect(ids.spanId()).toBe(`${'0'.repeat(15)}1`)
})
