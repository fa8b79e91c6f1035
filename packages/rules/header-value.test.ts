import fc from 'fast-check'
import { expect, test } from 'vitest'

import { parseHeaderValue } from './header-value.ts'

test.each<[string, string, Record<string, string>]>([
  ['application/json', 'application/json', {}],
  [' Application/JSON ; Charset=UTF-8 ', 'application/json', { charset: 'UTF-8' }],
  ['a/b; x="1;2"; y = "q\\"u\\\\o" ; z=', 'a/b', { x: '1;2', y: 'q"u\\o', z: '' }],
  ['form-data; name="f"; filename="C:\\dir\\x.pdf"', 'form-data', { name: 'f', filename: 'C:\\dir\\x.pdf' }],
  ['a/b; x=1; X=2', 'a/b', { x: '1' }],
  ['a/b; x; =1; ;y=2', 'a/b', { y: '2' }],
  ['a/b; x="open', 'a/b', { x: 'open' }],
  ['a/b; x="1"junk; y=2', 'a/b', { x: '1', y: '2' }],
  ['', '', {}],
])('%s', (header, value, parameters) => {
  const parsed = parseHeaderValue(header)
  expect(parsed.value).toBe(value)
  expect(Object.fromEntries(parsed.parameters)).toEqual(parameters)
})

test('any text is read, in one pass', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', ';', '=', '"', '\\', ' ', '\u0000') }), (header) => {
      expect(parseHeaderValue(header).value).toBe((header.split(';')[0] ?? '').trim())
    }),
    { numRuns: 2_000 },
  )
  const begin = performance.now()
  for (const piece of [';', '=', 'a;', 'a=;', '"', '="', ';a="', '\\', ';=']) parseHeaderValue(piece.repeat(200_000))
  expect(performance.now() - begin).toBeLessThan(1_500)
})
