import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkOrderPath, orderKeyCharsMax, orderKeyOf } from './order-key.ts'
import { buildSubject } from './subject.ts'

function subject(body: unknown, { contentType = 'application/json' } = {}) {
  return buildSubject({
    body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    headers: [
      ['Content-Type', contentType],
      ['X-Account', 'acme'],
      ['X-Tag', 'a'],
      ['X-Tag', 'b'],
    ],
    query: 'shard=3',
    path: '/orders',
    type: 'order.paid',
    source: 'shop',
  })
}
const keyOf = (value: unknown) => orderKeyOf(subject({ at: value }), 'body.at')

describe('the order key', () => {
  test.each([
    ['body.customer.id', '"cus_7"'],
    ['body.lines.0.sku', '"A-1"'],
    ['body.total', '12.5'],
    ['body.test', 'false'],
    ['headers.X-Account', '"acme"'],
    ['headers.x-tag', '["a","b"]'],
    ['query.shard', '"3"'],
    ['path', '"/orders"'],
    ['type', '"order.paid"'],
    ['source', '"shop"'],
  ])('at %s is %s', (path, key) => {
    const body = { customer: { id: 'cus_7' }, lines: [{ sku: 'A-1' }, { sku: 'A-2' }], total: 12.5, test: false }
    expect(orderKeyOf(subject(body), path)).toBe(key)
  })

  test.each([['body.nothing'], ['body.empty'], ['body.lines.sku'], ['body.lines.9'], ['headers.x-none'], ['no path']])(
    'is none at %s: the event is delivered unordered',
    (path) => {
      expect(orderKeyOf(subject({ empty: null, lines: [{ sku: 'A-1' }] }), path)).toBeNull()
    },
  )

  test('is none where the body can’t be read, and of a form’s fields what they hold', () => {
    expect(orderKeyOf(subject('{"id": 7', {}), 'body.id')).toBeNull()
    expect(orderKeyOf(subject('id=7', { contentType: 'application/x-www-form-urlencoded' }), 'body.id')).toBe('"7"')
  })

  test('tells types apart, and ids that differ in their last digit', () => {
    const values = ['7', 7, true, 'true', [7], ['7'], { a: 7 }, '[7]', '', 'null', {}, []]
    expect(new Set(values.map(keyOf)).size).toBe(values.length)
    expect(orderKeyOf(subject('{"id":12345678901234567890}'), 'body.id')).toBe('12345678901234567890')
    expect(orderKeyOf(subject('{"id":12345678901234567891}'), 'body.id')).toBe('12345678901234567891')
  })

  test('of a map does not hang on the order of its names', () => {
    expect(keyOf({ b: 1, a: { d: [1, 2], c: null } })).toBe('{"a":{"c":null,"d":[1,2]},"b":1}')
    expect(keyOf({ a: { c: null, d: [1, 2] }, b: 1 })).toBe(keyOf({ b: 1, a: { d: [1, 2], c: null } }))
    expect(keyOf([2, 1])).not.toBe(keyOf([1, 2]))
  })

  test('of a long value is its hash, which no short value is', () => {
    const long = 'x'.repeat(orderKeyCharsMax)
    expect(keyOf(long)).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(keyOf(long)).not.toBe(keyOf(`${long}y`))
    expect(keyOf(keyOf(long))).not.toBe(keyOf(long))
  })

  test('can be stored whatever was sent: short, without NUL, well-formed', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const key = keyOf(value)
        expect(key === null).toBe(value === null)
        expect(key ?? '').not.toContain('\u0000')
        expect((key ?? '').isWellFormed()).toBe(true)
        expect((key ?? '').length).toBeLessThanOrEqual(orderKeyCharsMax)
        expect(keyOf(value)).toBe(key)
      }),
    )
    expect(keyOf('\u0000\ud800')).toBe('"\\u0000\\ud800"')
  })
})

describe('a path of an order key', () => {
  test.each(['body', 'body.customer.id', 'headers.x-account', 'query.hub.mode', 'path', 'type', 'source'])(
    '%s can be one',
    (path) => {
      expect(checkOrderPath(path)).toEqual({ kind: 'path' })
    },
  )

  test.each([
    ['customer.id', /unknown field "customer"/, /begins with body, headers, query, path, type, source/],
    ['bodi.id', /did you mean "body"/, /begins with/],
    ['body..id', /empty part/, /keys with dots/],
    ['type.name', /type is a string/, /./],
    ['headers.', /needs a name/, /headers\.name/],
    ['', /unknown field/, /begins with/],
  ])('%s can not', (path, message, expected) => {
    expect(checkOrderPath(path)).toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(message),
      expected: expect.stringMatching(expected),
    })
  })
})
