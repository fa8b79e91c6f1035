import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'

import fc from 'fast-check'
import { expect, test } from 'vitest'

import { bodyBytesMax, parseBody } from './body.ts'

const json = Buffer.from('{"a":"é"}')

test.each([
  ['application/json', 'json', '{"a":1}', { a: 1 }],
  ['Application/JSON; charset="UTF-8"', 'json', '\ufeff{"a":1}', { a: 1 }],
  ['application/cloudevents+json', 'json', '[1]', [1]],
  ['text/json', 'json', '"x"', 'x'],
  ['application/x-www-form-urlencoded', 'form', 'a=1&a=2&b=%C3%A9', { a: ['1', '2'], b: 'é' }],
  ['application/xml', 'xml', '<a><b>1</b></a>', { a: { b: '1' } }],
  ['text/xml; charset=utf-8', 'xml', '\ufeff<a>é</a>', { a: 'é' }],
  ['application/soap+xml', 'xml', '<a/>', { a: '' }],
  ['text/plain', 'text', '{"a":1}', '{"a":1}'],
  ['text/csv', 'text', 'a,b\r\n', 'a,b\r\n'],
  [
    'multipart/form-data; boundary="x y"',
    'multipart',
    '--x y\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x y--',
    { a: '1' },
  ],
  [undefined, 'json', '{"a":1}', { a: 1 }],
  [undefined, 'json', '[1]', [1]],
])('%s is read as %s', (contentType, format, body, value) => {
  expect(parseBody(Buffer.from(body), contentType)).toEqual({ kind: 'parsed', format, value })
})

test.each([
  ['image/png', 'binary', 'x', 'unsupported_media_type'],
  ['multipart/mixed; boundary=b', 'binary', '--b--', 'unsupported_media_type'],
  ['application/x-ndjson', 'binary', '{}', 'unsupported_media_type'],
  ['', 'binary', '{}', 'unsupported_media_type'],
  [undefined, 'binary', 'a=1', 'unsupported_media_type'],
  [undefined, 'binary', '', 'unsupported_media_type'],
  [undefined, 'json', '{', 'malformed'],
  ['application/json', 'json', '', 'malformed'],
  ['application/json; charset=utf-16', 'json', '{}', 'unsupported_charset'],
  ['multipart/form-data', 'multipart', '--b--', 'malformed'],
  ['application/xml', 'xml', '<?xml version="1.0" encoding="UTF-16"?><a/>', 'unsupported_charset'],
])('%s is left unparsed as %s: %s', (contentType, format, body, code) => {
  expect(parseBody(Buffer.from(body), contentType)).toMatchObject({
    kind: 'unparsed',
    format,
    code,
    reason: expect.any(String),
  })
})

test.each(['application/json', 'application/x-www-form-urlencoded', 'application/xml', 'text/plain'])(
  '%s that is not UTF-8 is left unparsed',
  (contentType) => {
    expect(parseBody(Buffer.from([0x7b, 0xe9, 0x7d]), contentType)).toMatchObject({
      kind: 'unparsed',
      code: 'not_in_charset',
    })
  },
)

test('ISO-8859-1 is read where Content-Type or the XML declaration says so, Content-Type first', () => {
  expect(parseBody(Buffer.from('{"a":"\u00e9"}', 'latin1'), 'application/json; charset=iso-8859-1')).toMatchObject({
    value: { a: 'é' },
  })
  const xml = Buffer.from('<?xml version="1.0" encoding="ISO-8859-1"?><a>\u00e9</a>', 'latin1')
  expect(parseBody(xml, 'text/xml')).toMatchObject({ value: { a: 'é' } })
  expect(parseBody(xml, 'text/xml; charset=utf-8')).toMatchObject({ code: 'not_in_charset' })
})

test.each([
  ['gzip', gzipSync(json)],
  ['X-GZip', gzipSync(json)],
  ['br', brotliCompressSync(json)],
  ['deflate', deflateSync(json)],
  ['deflate', deflateRawSync(json)],
  ['identity', json],
  ['', json],
  ['br, gzip', gzipSync(brotliCompressSync(json))],
])('the content encoding %j is undone', (encoding, body) => {
  expect(parseBody(body, 'application/json', encoding)).toEqual({ kind: 'parsed', format: 'json', value: { a: 'é' } })
})

test('without a content type the decoded bytes are looked at', () => {
  expect(parseBody(gzipSync(json), undefined, 'gzip')).toMatchObject({ kind: 'parsed', format: 'json' })
})

test.each([
  ['zstd', json, 'unsupported_encoding'],
  ['gzip, gzip, gzip', json, 'unsupported_encoding'],
  ['gzip', json, 'broken_encoding'],
  ['br', gzipSync(json), 'broken_encoding'],
  ['gzip', gzipSync(json).subarray(0, -9), 'broken_encoding'],
  ['gzip', gzipSync(Buffer.alloc(bodyBytesMax + 1)), 'too_large'],
  ['br', brotliCompressSync(Buffer.alloc(bodyBytesMax + 1)), 'too_large'],
  ['deflate', deflateSync(Buffer.alloc(bodyBytesMax + 1)), 'too_large'],
])('the content encoding %j that is unknown, broken or too large leaves the body unparsed', (encoding, body, code) => {
  expect(parseBody(body, 'application/json', encoding)).toMatchObject({ kind: 'unparsed', format: 'json', code })
})

test('a body over the limit is not looked at', () => {
  expect(parseBody(Buffer.alloc(bodyBytesMax + 1, 0x20), 'text/plain')).toMatchObject({
    kind: 'unparsed',
    format: 'text',
    code: 'too_large',
  })
})

test('any bytes under any content type and encoding are parsed or left unparsed, never thrown over', () => {
  const types = fc.constantFrom(
    undefined,
    '',
    ';',
    'application/json',
    'application/x-www-form-urlencoded; charset=latin1',
    'text/xml',
    'text/plain',
    'multipart/form-data; boundary=b',
    'multipart/form-data; boundary="',
  )
  const encodings = fc.constantFrom(undefined, '', ',', 'gzip', 'br', 'deflate', 'br,deflate')
  const bodies = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
    fc.uint8Array().map((bytes) => gzipSync(bytes)),
  )
  fc.assert(
    fc.property(bodies, fc.oneof(types, fc.string()), fc.oneof(encodings, fc.string()), (body, type, encoding) => {
      const outcome = parseBody(Buffer.from(body), type, encoding)
      expect(['parsed', 'unparsed']).toContain(outcome.kind)
    }),
    { numRuns: 3_000 },
  )
})
