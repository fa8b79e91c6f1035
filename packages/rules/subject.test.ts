import { expect, test } from 'vitest'

import { compileFilter } from './filter.ts'
import { parsePath } from './path.ts'
import { buildSubject, readPath, type SubjectParams } from './subject.ts'

function subject(params: Partial<SubjectParams> & { json?: unknown } = {}) {
  const { json, ...given } = params
  return buildSubject({
    body: Buffer.from(JSON.stringify(json ?? {})),
    headers: [['Content-Type', 'application/json']],
    query: '',
    path: '/',
    type: undefined,
    source: 'shop',
    ...given,
  })
}

test('headers have lower-case names, repeated ones are lists, and none can be a prototype', () => {
  const { headers } = subject({
    headers: [
      ['X-Id', '1'],
      ['x-tag', 'a'],
      ['X-TAG', 'b'],
      ['__proto__', 'p'],
    ],
  })
  expect(Object.getPrototypeOf(headers)).toBeNull()
  expect(Object.entries(headers)).toEqual([
    ['x-id', '1'],
    ['x-tag', ['a', 'b']],
    ['__proto__', 'p'],
  ])
})

test('a body is parsed when it is first read, and once', () => {
  const body = Buffer.from('{"a":1}')
  const event = subject({ body, query: 'a=1', type: 't' })
  const compiled = compileFilter({
    type: 't',
    'query.a': '1',
    'headers.content-type': 'application/json',
    source: 'shop',
    path: '/',
  })
  expect(compiled.kind === 'compiled' && compiled.filter.matches(event)).toBe(true)
  body.write('{"a":2}')
  expect(event.body).toEqual({ a: 2 })
  body.write('{"a":3}')
  expect(event.body).toEqual({ a: 2 })
  expect(event.query).toBe(event.query)
  expect(event.headers).toBe(event.headers)
})

test('a Content-Type given twice does not decide how the body is read', () => {
  expect(
    subject({
      headers: [
        ['Content-Type', 'text/plain'],
        ['content-type', 'application/json'],
      ],
      json: { a: 1 },
    }).parsedBody,
  ).toMatchObject({ format: 'json' })
})

test('a compressed body is read, and one that cannot be parsed is undefined, with the reason', () => {
  const broken = subject({
    headers: [
      ['Content-Type', 'application/json'],
      ['Content-Encoding', 'gzip'],
    ],
  })
  expect(broken.body).toBeUndefined()
  expect(broken.parsedBody).toMatchObject({ kind: 'unparsed', code: 'broken_encoding' })
})

test.each([
  ['body.data.object.id', 'pi_1'],
  ['body.items.1.sku', 'b'],
  ['body.items.2.sku', undefined],
  ['body.items.sku', undefined],
  ['body.items.length', undefined],
  ['body.labels.app\\.kubernetes\\.io/name', 'web'],
  ['body.labels.app', undefined],
  ['body.$ref', '#/x'],
  ['body.constructor', undefined],
  ['body.__proto__', undefined],
  ['body.snowflake', 1234567890123456789n],
  ['body.data', { object: { id: 'pi_1' } }],
  ['headers.Content-Type', 'application/json'],
  ['query.hub.mode', 'subscribe'],
  ['type', 'order.paid'],
  ['path', '/'],
  ['source', 'shop'],
  ['source.x', undefined],
  ['parsedBody.kind', undefined],
  ['', undefined],
])('readPath %s', (path, value) => {
  const body = `{"data":{"object":{"id":"pi_1"}},"items":[{"sku":"a"},{"sku":"b"}],"labels":{"app.kubernetes.io/name":"web"},"$ref":"#/x","snowflake":1234567890123456789}`
  expect(readPath(subject({ body: Buffer.from(body), query: 'hub.mode=subscribe', type: 'order.paid' }), path)).toEqual(
    value,
  )
})

test.each([
  ['bdy.id', 'unknown field "bdy"; did you mean "body"?'],
  ['parsedBody', 'unknown field "parsedBody"'],
  ['', 'unknown field ""'],
  ['body.', 'empty part'],
  ['body..id', 'empty part'],
  ['body.a\\n', 'stray backslash'],
  ['body.a\\', 'stray backslash'],
  ['headers.', 'needs a name'],
  ['type.x', 'type is a string'],
  [`body${'.a'.repeat(32)}`, 'more than 32 parts'],
  [`body.${'a'.repeat(500)}`, 'longer than 500 characters'],
])('the path %s is refused', (path, message) => {
  expect(parsePath(path)).toMatchObject({ kind: 'invalid', message: expect.stringContaining(message) })
})
