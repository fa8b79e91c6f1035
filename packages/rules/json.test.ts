import fc from 'fast-check'
import { expect, test } from 'vitest'

import { jsonDepthMax, jsonValuesMax, parseJson } from './json.ts'

function valueOf(text: string): unknown {
  const outcome = parseJson(text)
  if (outcome.kind === 'unparsed') throw new Error(outcome.reason)
  return outcome.value
}

test('reads what JSON.parse reads, to the same value', () => {
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(undefined, 2), (json, indent) => {
      const text = JSON.stringify(JSON.parse(json), null, indent)
      expect(numbers(valueOf(text))).toEqual(JSON.parse(text))
    }),
    { numRuns: 1_000 },
  )
})

test('refuses what JSON.parse refuses, and never throws', () => {
  const almostJson = fc
    .array(fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', '1', '-', 'e', '.', 'null', ' ', '"a"', '\u0000'))
    .map((parts) => parts.join(''))
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), almostJson), (text) => {
      let expected: string
      try {
        JSON.parse(text)
        expected = 'parsed'
      } catch {
        expected = 'unparsed'
      }
      expect(parseJson(text).kind).toBe(expected)
    }),
    { numRuns: 2_000 },
  )
})

test('the last of repeated keys counts', () => {
  expect(valueOf('{"a":1,"a":2}')).toEqual({ a: 2 })
})

test('a __proto__ key is an ordinary property and changes no prototype', () => {
  const value = valueOf('{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}') as Record<
    string,
    unknown
  >
  expect(Object.hasOwn(value, '__proto__')).toBe(true)
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
  expect(value.admin).toBeUndefined()
  expect(Object.hasOwn(Object.prototype, 'admin')).toBe(false)
})

test('ids that differ in their last digit stay different', () => {
  expect(valueOf('[1234567890123456788,1234567890123456789]')).toEqual([1234567890123456788n, 1234567890123456789n])
  expect(valueOf('{"a":-9007199254740993,"b":9007199254740991}')).toEqual({
    a: -9007199254740993n,
    b: 9007199254740991,
  })
})

test('only integers become bigint: fractions, exponents and digits in strings do not', () => {
  const text = '[0.12345678901234567890,1e300,"1234567890123456789"]'
  expect(valueOf(text)).toEqual(JSON.parse(text))
})

test('an integer beyond all doubles is what JSON.parse makes of it', () => {
  expect(valueOf('9'.repeat(400))).toBe(Infinity)
})

test('nesting is read to its bound and refused one level beyond', () => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  expect(parseJson(nested(jsonDepthMax))).toMatchObject({ kind: 'parsed' })
  expect(parseJson(nested(jsonDepthMax + 1))).toMatchObject({ kind: 'unparsed', code: 'too_deep' })
  expect(parseJson('{"a":'.repeat(200_000))).toMatchObject({ kind: 'unparsed', code: 'too_deep' })
})

test('brackets inside strings are not nesting', () => {
  for (const content of ['['.repeat(500), `"${'['.repeat(500)}`, `\\"${'{'.repeat(500)}\\`]) {
    const text = JSON.stringify([content])
    expect(valueOf(text)).toEqual([content])
  }
})

test('more values than the bound are refused before they are made', () => {
  expect(parseJson(`[${'0,'.repeat(jsonValuesMax)}0]`)).toMatchObject({ kind: 'unparsed', code: 'too_many_values' })
})

test('the reason never quotes the body', () => {
  expect(JSON.stringify(parseJson('{"card":"4242 4242"'))).not.toContain('4242')
})

/** JSON.parse rounds where `parseJson` keeps a bigint: the same number, rounded. */
function numbers(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (Array.isArray(value)) return value.map(numbers)
  if (typeof value !== 'object' || value === null) return value
  const copy: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) {
    Object.defineProperty(copy, key, { value: numbers(inner), enumerable: true, writable: true, configurable: true })
  }
  return copy
}
