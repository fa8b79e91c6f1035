import { expect, test } from 'vitest'

import { compileFilter } from './filter.ts'
import { buildSubject } from './subject.ts'

const mebibyte = 1_048_576

/** Ms to match and to explain. The limits in the tests are many times what was measured: they catch growth, not noise. */
function costMs(body: string, filter: unknown): number {
  const compiled = compileFilter(filter)
  if (compiled.kind === 'invalid') throw new Error(compiled.errors[0]?.message)
  const subject = buildSubject({
    body: Buffer.from(body),
    headers: [['Content-Type', 'application/json']],
    query: '',
    path: '/',
    type: undefined,
    source: 's',
  })
  expect(subject.parsedBody.kind).toBe('parsed')
  const begin = performance.now()
  expect(compiled.filter.matches(subject)).toBe(false)
  expect(compiled.filter.explain(subject).matched).toBe(false)
  return performance.now() - begin
}

function list(element: string): string {
  return `{"a":[${`${element},`.repeat(mebibyte / (element.length + 1) - 10)}${element}]}`
}

test('a list of half a million values against the largest filter', () => {
  const filter = { $or: Array.from({ length: 160 }, (_, i) => ({ 'body.a': { $gt: i + 2 } })) }
  expect(costMs(list('1'), filter)).toBeLessThan(20_000)
}, 60_000)

test('a long $in costs no more than a short one', () => {
  expect(costMs(list('1'), { 'body.a': { $in: Array.from({ length: 1_000 }, (_, i) => i + 5) } })).toBeLessThan(2_000)
}, 60_000)

test('lists in lists under a path of the greatest length', () => {
  let body = '1'
  for (let i = 0; i < 20; i += 1) body = `[{"a":${body}},{"a":[{"a":[1]}]}]`
  const filter = { $or: Array.from({ length: 100 }, (_, i) => ({ [`body${'.a'.repeat(31)}`]: { $gt: i + 5 } })) }
  expect(costMs(`{"a":[${`${body},`.repeat(mebibyte / (body.length + 1))}1]}`, filter)).toBeLessThan(20_000)
}, 60_000)

test('$elemMatch in $elemMatch', () => {
  let inner: unknown = { $gt: 5 }
  for (let i = 0; i < 10; i += 1) inner = { $elemMatch: inner }
  const rows = `${'['.repeat(10)}${'1,'.repeat(mebibyte / 2 - 20)}1${']'.repeat(10)}`
  expect(costMs(`{"a":${rows}}`, { 'body.a': inner })).toBeLessThan(5_000)
}, 60_000)

test('a long text against patterns', () => {
  const filter = { $or: Array.from({ length: 10 }, (_, i) => ({ 'body.a': { $regex: `(x+x+)+${i}$` } })) }
  expect(costMs(`{"a":"${'x'.repeat(mebibyte - 10)}"}`, filter)).toBeLessThan(20_000)
}, 60_000)
