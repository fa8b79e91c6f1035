import fc from 'fast-check'
import { expect, test } from 'vitest'

import type { Fields } from './fields.ts'
import { fieldsMax, parseQuery, parseUrlEncoded } from './query.ts'

/** What the URL standard makes of it. */
function standard(text: string): [string, string][] {
  return [...new URLSearchParams(text.startsWith('?') ? `?${text}` : text)]
}

function pairs(fields: Fields): [string, string][] {
  return Object.entries(fields).flatMap(([name, value]) => [value].flat().map((one): [string, string] => [name, one]))
}

function byName(list: [string, string][]): [string, string][] {
  return list.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

test('reads what URLSearchParams writes, each name with its values in order', () => {
  const text = fc.string({ unit: 'grapheme' })
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text), { maxLength: 12 }), (list) => {
      expect(byName(pairs(parseQuery(new URLSearchParams(list).toString())))).toEqual(byName(list))
    }),
    { numRuns: 1_000 },
  )
})

test('reads stray percent signs, empty names and repeated separators as URLSearchParams does', () => {
  // Without unencoded letters beyond ASCII: beside a stray percent sign, Node's URLSearchParams garbles them.
  const odd = fc
    .array(fc.constantFrom('x', 'y', '=', '&', '+', '%', '%4', '%41', '%zz', '%C3%A9', '[]', '.', '?'), {
      maxLength: 12,
    })
    .map((parts) => parts.join(''))
  fc.assert(
    fc.property(odd, (text) => {
      expect(byName(pairs(parseQuery(text)))).toEqual(byName(standard(text)))
    }),
    { numRuns: 2_000 },
  )
})

test('letters beyond ASCII may stand unencoded', () => {
  expect(parseQuery('%zz%C3%A9é=é')).toEqual({ '%zzéé': 'é' })
})

test('a repeated name is a list, in order; brackets and dots are part of a name', () => {
  expect(parseQuery('a=1&items[]=x&a=2&hub.mode=subscribe&a=&u[name]=n')).toEqual({
    a: ['1', '2', ''],
    'items[]': 'x',
    'hub.mode': 'subscribe',
    'u[name]': 'n',
  })
})

test('bytes that are not UTF-8 stay as they were sent, so that different values stay different', () => {
  expect(parseQuery('a=%E9+x&b=%e8')).toEqual({ a: '%E9+x', b: '%e8' })
})

test('ISO-8859-1 is decoded where it is declared', () => {
  expect(parseUrlEncoded('caf%E9=\u00e9+%', 'iso-8859-1')).toMatchObject({
    kind: 'parsed',
    value: { 'caf\u00e9': '\u00e9 %' },
  })
})

test('a field named __proto__ or constructor is a field', () => {
  const fields = parseQuery('__proto__=a&__proto__=b&constructor=c&toString=d')
  expect(Object.getPrototypeOf(fields)).toBeNull()
  expect(Object.entries(fields)).toEqual([
    ['__proto__', ['a', 'b']],
    ['constructor', 'c'],
    ['toString', 'd'],
  ])
})

test('more fields than the bound: a form is refused, a query string reads as empty', () => {
  const text = 'a&'.repeat(fieldsMax + 1)
  expect(parseUrlEncoded(text, 'utf-8')).toMatchObject({ kind: 'unparsed', code: 'too_many_values' })
  expect(parseQuery(text)).toEqual({})
  expect(parseUrlEncoded('a&'.repeat(fieldsMax), 'utf-8')).toMatchObject({ kind: 'parsed' })
})

test('a hostile form takes time in proportion to its length', () => {
  const begin = performance.now()
  parseUrlEncoded(`${'a&'.repeat(fieldsMax - 1)}${'&'.repeat(16 * 1_048_576)}`, 'utf-8')
  for (const piece of ['&', '=', '%', '+', '%E9']) parseUrlEncoded(piece.repeat(1_048_576 / piece.length), 'utf-8')
  expect(performance.now() - begin).toBeLessThan(3_000)
})
