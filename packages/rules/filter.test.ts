import { expect, test } from 'vitest'

import { compileFilter, type Filter } from './filter.ts'
import { buildSubject, type Subject } from './subject.ts'

function compile(filter: unknown): Filter {
  const compiled = compileFilter(filter)
  if (compiled.kind === 'invalid')
    throw new Error(compiled.errors.map((error) => `${error.path}: ${error.message}`).join('\n'))
  return compiled.filter
}

function event(
  body: unknown,
  more: Partial<{ headers: [string, string][]; query: string; type: string; path: string; contentType: string }> = {},
): Subject {
  return buildSubject({
    body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    headers: [['Content-Type', more.contentType ?? 'application/json'], ...(more.headers ?? [])],
    query: more.query ?? '',
    path: more.path ?? '/',
    type: more.type,
    source: 'shop',
  })
}

function matches(filter: unknown, subject: Subject): boolean {
  const compiled = compile(filter)
  const matched = compiled.matches(subject)
  expect(compiled.explain(subject).matched).toBe(matched)
  return matched
}

const absent = Symbol('absent')

/** operator, operand, values of `body.v` that match, values that do not. */
const table: [string, unknown, unknown[], unknown[]][] = [
  ['$eq', 5, [5, 5.0, [5], [1, 5]], ['5', 6, [[5]], [], { a: 5 }, null, true, absent]],
  ['$eq', '5', ['5', ['5']], [5, '05', '5 ', absent]],
  ['$eq', '', [''], [null, absent, []]],
  ['$eq', null, [null, [null]], [absent, 0, '', false, 'null']],
  ['$eq', false, [false], [0, null, 'false', absent]],
  [
    '$eq',
    [1, 2],
    [
      [1, 2],
      [[1, 2], 3],
    ],
    [[2, 1], [1, 2, 3], 1, absent],
  ],
  [
    '$eq',
    { a: 1, b: { c: 2 } },
    [{ a: 1, b: { c: 2 } }, { b: { c: 2 }, a: 1 }, [{ a: 1, b: { c: 2 } }]],
    [{ a: 1 }, { a: 1, b: { c: 2 }, d: 3 }, { a: 1, b: { c: '2' } }, absent],
  ],
  ['$eq', {}, [{}], [[], { a: 1 }, null, absent]],
  ['$ne', 5, [6, '5', null, [6], {}], [5, [6, 5], absent]],
  ['$ne', null, [0, '', 'x', []], [null, [null], absent]],
  ['$gt', 80, [81, 80.5, [1, 99]], [80, 79, '81', null, true, { a: 99 }, [], absent]],
  ['$gte', 80, [80, 81], [79, '80', absent]],
  ['$lt', 80, [79, -1, 0], [80, 81, '1', null, false, absent]],
  ['$lte', 80, [80, 79], [81, '80', absent]],
  ['$gt', '2026-01-31', ['2026-02-01', '3'], ['2026-01-31', '2026-01-30', 3, absent]],
  ['$lt', 'b', ['a', 'aa', '', 'B'], ['b', 'c', 1, absent]],
  [
    '$in',
    ['a', 1, null, [2], { x: 1 }],
    ['a', 1, null, ['q', 'a'], [[2]], [2], { x: 1 }],
    ['1', 'b', 2, { x: 2 }, [], absent],
  ],
  ['$nin', ['a', 1], ['b', '1', null, []], ['a', 1, ['b', 'a'], absent]],
  ['$exists', true, [0, null, '', [], {}], [absent]],
  ['$exists', false, [absent], [0, null, '', [], {}]],
  ['$regex', '^pay.*ed$', ['payed', 'pay, then ed', ['x', 'payed']], ['Payed', 'x payed', 'payed ', 5, null, absent]],
  ['$startsWith', 'ord', ['order', 'ord', ['x', 'order']], ['Order', 'or', 'xord', 5, absent]],
  ['$endsWith', '.paid', ['order.paid', '.paid'], ['order.paid ', 'paid', 5, absent]],
  ['$ieq', 'Straße', ['straße', 'STRAßE', ['x', 'straße']], ['strasse', 'straße ', 5, absent]],
  [
    '$wildcard',
    'order.*.paid',
    ['order.x.paid', 'order..paid', 'order.a.b\nc.paid'],
    ['order.paid', 'xorder.x.paid', 'order.x.paid!', 'Order.x.paid', 5, absent],
  ],
  ['$wildcard', '?\\*.(a)', ['x*.(a)', '😀*.(a)'], ['*.(a)', 'xx*.(a)', 'xy.(a)', 'x*.a', absent]],
  [
    '$all',
    ['a', 'b'],
    [
      ['b', 'a'],
      ['a', 'b', 'c'],
    ],
    [['a'], 'a', [], absent],
  ],
  ['$all', ['a'], ['a', ['a']], ['b', absent]],
  [
    '$size',
    2,
    [
      [1, 2],
      [[], []],
    ],
    [[1], [1, 2, 3], 'ab', { length: 2 }, [[1, 2]], absent],
  ],
  ['$size', 0, [[]], [[1], '', {}, absent]],
  ['$elemMatch', { $gt: 5, $lt: 10 }, [[1, 7], [7]], [[1, 12], 7, [], [[7]], ['7'], absent]],
  [
    '$elemMatch',
    { sku: 'a', 'qty.n': { $gte: 2 } },
    [[{ sku: 'a', qty: { n: 2 } }]],
    [
      [
        { sku: 'a', qty: { n: 1 } },
        { sku: 'b', qty: { n: 2 } },
      ],
      { sku: 'a', qty: { n: 2 } },
      [[{ sku: 'a', qty: { n: 2 } }]],
      absent,
    ],
  ],
  ['$elemMatch', { $or: [{ a: 1 }, { b: 1 }] }, [[{ b: 1 }]], [[{ c: 1 }], [1], absent]],
  ['$elemMatch', { $not: { $gt: 5 } }, [[1, 9], ['x'], [null]], [[9], [], absent]],
  ['$elemMatch', { $not: { a: 1 } }, [[{ a: 2 }], [{}]], [[{ a: 1 }], [5], absent]],
  ['$elemMatch', { $elemMatch: { $eq: 1 } }, [[[1]], [[2, 1]]], [[1], 1, [[[1]]], absent]],
  ['$not', { $gt: 5 }, [5, '9', null, absent, []], [6, [1, 6]]],
  ['$not', { $in: ['a'] }, ['b', absent], ['a']],
  ['$not', { $exists: true }, [absent], [null, 1]],
  [
    '$cidr',
    '10.0.0.0/8',
    ['10.1.2.3', '::ffff:10.1.2.3', '::FFFF:0a01:0203', ['x', '10.0.0.1']],
    ['11.0.0.1', '10.1', '012.1.2.3', '10.1.2.3/32', 'x', 167837955, '::a01:203', absent],
  ],
  [
    '$cidr',
    ['2001:db8::/32', '192.0.2.7/32'],
    ['2001:db8::1', '2001:0DB8:ffff::', '192.0.2.7'],
    ['2001:db9::1', '192.0.2.8', absent],
  ],
  ['$cidr', '::ffff:10.0.0.0/104', ['10.9.9.9'], ['11.0.0.0', absent]],
  ['$cidr', '0.0.0.0/0', ['1.2.3.4'], ['::1', absent]],
]

test.each(table)('%s %j', (operator, operand, matching, others) => {
  for (const [wanted, values] of [
    [true, matching],
    [false, others],
  ] as const) {
    for (const value of values) {
      const subject = event(value === absent ? {} : { v: value })
      expect({ value, matched: matches({ body: { v: { [operator]: operand } } }, subject) }).toEqual({
        value,
        matched: wanted,
      })
    }
  }
})

test('$regex takes the options i, m and s, and needs no match of the whole', () => {
  expect(matches({ 'body.v': { $regex: 'PAID' } }, event({ v: 'is paid' }))).toBe(false)
  expect(matches({ 'body.v': { $regex: 'PAID', $options: 'i' } }, event({ v: 'is paid' }))).toBe(true)
  expect(matches({ 'body.v': { $regex: '^b' } }, event({ v: 'a\nb' }))).toBe(false)
  expect(matches({ 'body.v': { $regex: '^b', $options: 'm' } }, event({ v: 'a\nb' }))).toBe(true)
  expect(matches({ 'body.v': { $regex: 'a.b' } }, event({ v: 'a\nb' }))).toBe(false)
  expect(matches({ 'body.v': { $options: 'is', $regex: 'A.B' } }, event({ v: 'a\nb' }))).toBe(true)
})

test('the empty filter matches everything, also what cannot be parsed', () => {
  expect(matches({}, event('\u0000', { contentType: 'application/pdf' }))).toBe(true)
})

test('a plain object is a nested path, a value equals, and several fields are all needed', () => {
  const filter = { body: { data: { type: 'paid', amount: { $gt: 5, $lt: 9 } } }, type: 't' }
  expect(matches(filter, event({ data: { type: 'paid', amount: 7, more: 1 } }, { type: 't' }))).toBe(true)
  expect(matches(filter, event({ data: { type: 'paid', amount: 9 } }, { type: 't' }))).toBe(false)
  expect(matches(filter, event({ data: { type: 'paid', amount: 7 } }))).toBe(false)
  expect(
    matches({ 'body.data.amount': 7, 'body.data': { type: 'paid' } }, event({ data: { type: 'paid', amount: 7 } })),
  ).toBe(true)
})

test('dots may stand in any key, and a backslash keeps one in a name', () => {
  expect(matches({ body: { 'a.b': { 'c.d': 1 } } }, event({ a: { b: { c: { d: 1 } } } }))).toBe(true)
  expect(matches({ body: { 'a\\.b': 1 } }, event({ 'a.b': 1 }))).toBe(true)
  expect(matches({ body: { 'a\\.b': 1 } }, event({ a: { b: 1 } }))).toBe(false)
  expect(matches({ body: { '\\$ref': 'x' } }, event({ $ref: 'x' }))).toBe(true)
})

test('a path goes through lists: any element will do, a number picks one, fields may meet in different elements', () => {
  const body = {
    items: [
      { sku: 'a', qty: 1 },
      { sku: 'b', qty: 9 },
    ],
    grid: [[{ x: 1 }]],
    '0': 'zero',
  }
  expect(matches({ 'body.items.sku': 'b' }, event(body))).toBe(true)
  expect(matches({ 'body.items.1.sku': 'b' }, event(body))).toBe(true)
  expect(matches({ 'body.items.0.sku': 'b' }, event(body))).toBe(false)
  expect(matches({ body: { items: { sku: 'a', qty: 9 } } }, event(body))).toBe(true)
  expect(matches({ 'body.items': { $elemMatch: { sku: 'a', qty: 9 } } }, event(body))).toBe(false)
  expect(matches({ 'body.items.sku': { $all: ['a', 'b'] } }, event(body))).toBe(true)
  expect(matches({ 'body.items.sku': { $ne: 'b' } }, event(body))).toBe(false)
  expect(matches({ 'body.items.sku': { $ne: 'c' } }, event(body))).toBe(true)
  expect(matches({ 'body.grid.x': 1 }, event(body))).toBe(false)
  expect(matches({ 'body.grid.0.x': 1 }, event(body))).toBe(true)
  expect(matches({ 'body.0': 'zero' }, event(body))).toBe(true)
  expect(matches({ 'body.1.id': 7 }, event([{ id: 6 }, { id: 7 }]))).toBe(true)
  expect(matches({ 'body.id': 7 }, event([{ id: 6 }, { id: 7 }]))).toBe(true)
  expect(matches({ 'body.items.0': { $exists: true } }, event({ items: [] }))).toBe(false)
})

test('inherited members are no fields', () => {
  for (const name of ['constructor', 'toString', '__proto__', 'length']) {
    expect(matches({ body: { a: { [`${name}.x`]: { $exists: true } } } }, event({ a: {} }))).toBe(false)
    expect(matches({ [`body.a.${name}`]: { $exists: true } }, event({ a: {} }))).toBe(false)
    expect(matches({ [`body.a.${name}`]: { $exists: true } }, event({ a: [1] }))).toBe(false)
    expect(matches({ [`body.a.${name}`]: { $exists: true } }, event({ a: 'text' }))).toBe(false)
    expect(matches({ [`body.a.${name}`]: 1 }, event(`{"a":{"${name}":1}}`))).toBe(true)
  }
})

test('an operand with a key of the prototype equals only a value with that key', () => {
  const operand: unknown = JSON.parse('{"__proto__":{}}')
  expect(matches({ 'body.a': { $eq: operand } }, event('{"a":{"__proto__":{}}}'))).toBe(true)
  expect(matches({ 'body.a': { $eq: operand } }, event('{"a":{"b":1}}'))).toBe(false)
})

test('$and, $or, $nor and $not join whole conditions', () => {
  const subject = event({ a: 1, b: 2 }, { type: 't' })
  const yes = { 'body.a': 1 }
  const no = { 'body.a': 2 }
  expect(matches({ $and: [yes, { type: 't' }] }, subject)).toBe(true)
  expect(matches({ $and: [yes, no] }, subject)).toBe(false)
  expect(matches({ $or: [no, yes] }, subject)).toBe(true)
  expect(matches({ $or: [no, no] }, subject)).toBe(false)
  expect(matches({ $nor: [no, no] }, subject)).toBe(true)
  expect(matches({ $nor: [no, yes] }, subject)).toBe(false)
  expect(matches({ $not: no }, subject)).toBe(true)
  expect(matches({ $not: yes }, subject)).toBe(false)
  expect(matches({ $not: { 'body.a': 1, type: 'u' } }, subject)).toBe(true)
  expect(matches({ $or: [no, yes], type: 'u' }, subject)).toBe(false)
})

test('headers have no letter case and may be lists; query names are taken whole', () => {
  const subject = event(
    {},
    {
      headers: [
        ['X-Topic', 'orders/paid'],
        ['X-Tag', 'a'],
        ['x-tag', 'b'],
        ['X.Dot', 'd'],
      ],
      query: 'hub.mode=subscribe&n=1&n=2',
    },
  )
  expect(matches({ headers: { 'x-TOPIC': 'orders/paid' } }, subject)).toBe(true)
  expect(matches({ 'headers.X-Tag': 'b' }, subject)).toBe(true)
  expect(matches({ 'headers.X-Tag': { $size: 2 } }, subject)).toBe(true)
  expect(matches({ 'headers.x.dot': 'd' }, subject)).toBe(true)
  expect(matches({ 'query.hub.mode': 'subscribe' }, subject)).toBe(true)
  expect(matches({ query: { n: { $all: ['1', '2'] } } }, subject)).toBe(true)
  expect(matches({ query: { n: { $elemMatch: { $gt: '1' } } } }, subject)).toBe(true)
  expect(matches({ query: { hub: { $exists: true } } }, subject)).toBe(false)
})

test('an event without a type, or with a body that cannot be parsed, has no such field', () => {
  const subject = event('not json')
  expect(matches({ type: { $exists: false } }, subject)).toBe(true)
  expect(matches({ type: { $ne: 'x' } }, subject)).toBe(false)
  expect(matches({ body: { $exists: false } }, subject)).toBe(true)
  expect(matches({ 'body.a': { $ne: 1 } }, subject)).toBe(false)
})

test('values of forms, XML and multipart are strings and never equal numbers', () => {
  const form = event('score=85', { contentType: 'application/x-www-form-urlencoded' })
  expect(matches({ 'body.score': { $gt: 80 } }, form)).toBe(false)
  expect(matches({ 'body.score': '85' }, form)).toBe(true)
  const xml = event('<lead><score>85</score></lead>', { contentType: 'text/xml' })
  expect(matches({ 'body.lead.score': { $gt: 80 } }, xml)).toBe(false)
  expect(matches({ 'body.lead.score': '85' }, xml)).toBe(true)
})

test('a text body is a value of its own', () => {
  const subject = event('paid: 7', { contentType: 'text/plain' })
  expect(matches({ body: 'paid: 7' }, subject)).toBe(true)
  expect(matches({ body: { $startsWith: 'paid' } }, subject)).toBe(true)
  expect(matches({ body: { a: 1 } }, subject)).toBe(false)
})

test('integers too long for a number compare by their exact value and equal none', () => {
  const subject = event('{"id":9007199254740993}')
  expect(matches({ 'body.id': { $gt: 9007199254740991 } }, subject)).toBe(true)
  expect(matches({ 'body.id': { $lte: 9007199254740991 } }, subject)).toBe(false)
  expect(matches({ 'body.id': 9007199254740991 }, subject)).toBe(false)
})

function reason(filter: unknown, subject: Subject): unknown {
  const explanation = compile(filter).explain(subject)
  return explanation.matched ? undefined : explanation.reason
}

test('an explanation names the first condition that failed, and the value it failed on', () => {
  const subject = event({ amount: 3, tags: ['a', 'b'], items: [{ n: 1 }, { n: 2 }] }, { type: 't' })
  expect(reason({ type: 't', body: { amount: { $gt: 1, $lt: 2 } } }, subject)).toEqual({
    path: 'body.amount',
    operator: '$lt',
    expected: 2,
    actual: 3,
  })
  expect(reason({ type: 'u' }, subject)).toEqual({ path: 'type', operator: '$eq', expected: 'u', actual: 't' })
  expect(reason({ 'body.items.n': 7 }, subject)).toEqual({
    path: 'body.items.n',
    operator: '$eq',
    expected: 7,
    actual: [1, 2],
  })
  expect(reason({ 'body.tags': { $not: { $in: ['a'] } } }, subject)).toEqual({
    path: 'body.tags',
    operator: '$not',
    expected: { $in: ['a'] },
    actual: ['a', 'b'],
  })
  expect(reason({ 'body.none': { $exists: true } }, subject)).toEqual({
    path: 'body.none',
    operator: '$exists',
    expected: true,
    actual: undefined,
    hint: 'the event has no body.none',
  })
  expect(reason({ $nor: [{ type: 'u' }, { type: 't' }] }, subject)).toEqual({
    path: 'filter.$nor',
    operator: '$nor',
    expected: 'the condition does not hold',
    actual: 'it holds: filter.$nor.1',
  })
  expect(reason({ type: { $regex: '^X', $options: 'i' } }, subject)).toMatchObject({
    operator: '$regex',
    expected: '(?i)^X',
    actual: 't',
  })
})

test('an explanation shows the first few of many values', () => {
  const items = (count: number) => ({ items: Array.from({ length: count }, (_, n) => ({ n })) })
  expect(reason({ 'body.items.n': 'x' }, event(items(5)))).toMatchObject({ actual: [0, 1, 2, 3, 4] })
  expect(reason({ 'body.items.n': 'x' }, event(items(6)))).toMatchObject({ actual: [0, 1, 2, 3, 4, '… and more'] })
})

test('an explanation of $or gives each alternative, within a bound', () => {
  const subject = event({ a: 1 })
  expect(reason({ $or: [{ type: 'u' }, { 'body.a': 2 }] }, subject)).toMatchObject({
    path: 'filter.$or',
    operator: '$or',
    alternatives: [
      { path: 'type', expected: 'u' },
      { path: 'body.a', expected: 2, actual: 1 },
    ],
  })
  const many = { $or: Array.from({ length: 30 }, (_, i) => ({ $or: [{ 'body.a': i + 2 }, { type: String(i) }] })) }
  const text = JSON.stringify(reason(many, subject))
  expect(text.match(/"operator"/g)).toHaveLength(16)
  expect(text).toContain('30 alternatives in all')
})

test('an explanation says what a person may not see', () => {
  expect(reason({ 'body.n': { $gt: 80 } }, event({ n: '85' }))).toMatchObject({
    actual: '85',
    hint: expect.stringContaining('types never coerce'),
  })
  expect(reason({ 'body.n': '85' }, event({ n: 85 }))).toMatchObject({
    actual: 85,
    hint: expect.stringContaining('types never coerce'),
  })
  expect(reason({ 'body.n': 1 }, event('{'))).toMatchObject({
    hint: 'the body is not parsed: the body is not valid JSON',
  })
})

test('an explanation is small and safe to write as JSON, whatever the event holds', () => {
  const big = {
    text: 'x'.repeat(100_000),
    list: Array.from({ length: 10_000 }, () => ({ a: { b: { c: 'd' } } })),
    id: 0,
  }
  const body = JSON.stringify(big).replace('"id":0', '"id":12345678901234567890')
  for (const filter of [
    { 'body.text': 'y' },
    { 'body.list': 'y' },
    { 'body.list.a': 'y' },
    { body: 'y' },
    { 'body.id': 1 },
    { 'body.text': { $in: Array.from({ length: 1_000 }, (_, i) => `option ${i}`) } },
  ]) {
    expect(JSON.stringify(reason(filter, event(body))).length).toBeLessThan(3_000)
  }
  expect(reason({ 'body.id': 1 }, event(body))).toMatchObject({ actual: '12345678901234567890' })
})
