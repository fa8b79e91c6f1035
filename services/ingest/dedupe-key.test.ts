import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { dedupeKeyOf } from './dedupe-key.ts'

const json: HeaderPairs = [['Content-Type', 'application/json']]
const key = (by: Parameters<typeof dedupeKeyOf>[0], body: string | Buffer, headers: HeaderPairs = json) =>
  dedupeKeyOf(by, { dedupeKey: 'natural', headers, body: Buffer.from(body) })

describe('the dedupe key', () => {
  test('is the provider’s own unless the source says otherwise', () => {
    expect(key('auto', '{}')).toBe('natural')
    expect(key('none', '{}')).toBeUndefined()
  })

  test('of equal bytes is equal, of others another', () => {
    expect(key('body', 'a')).toBe(key('body', 'a'))
    expect(key('body', 'a')).not.toBe(key('body', 'b'))
  })

  test('can be a header that is there once', () => {
    expect(key({ header: 'X-Id' }, '{}', [['x-id', '7']])).toBe('7')
    expect(
      key({ header: 'X-Id' }, '{}', [
        ['x-id', '7'],
        ['X-ID', '8'],
      ]),
    ).toBeUndefined()
  })

  test('can be a path into JSON, forms and compressed bodies; large numbers keep all their digits', () => {
    expect(key({ path: 'data.id' }, '{"data":{"id":"x"}}')).toBe('x')
    expect(key({ path: 'body.data.id' }, '{"data":{"id":12345678901234567890}}')).toBe('12345678901234567890')
    expect(key({ path: 'id' }, 'id=5&a=b', [['Content-Type', 'application/x-www-form-urlencoded']])).toBe('5')
    expect(key({ path: 'id' }, gzipSync('{"id":5}'), [...json, ['Content-Encoding', 'gzip']])).toBe('5')
  })

  test.each(['not json', '{}', '{"id":null}', '{"id":{"a":1}}', '{"id":[1]}'])(
    'is absent in %s: such a request is never a duplicate',
    (body) => {
      expect(key({ path: 'id' }, body)).toBeUndefined()
    },
  )
})
