import fc from 'fast-check'
import { expect, test } from 'vitest'

import { filterDepthMax, filterErrorsMax, filterNodesMax } from './conditions.ts'
import { compileFilter, type FilterError } from './filter.ts'
import { operandLengthMax, operandListMax } from './operand.ts'
import { patternLengthMax } from './pattern.ts'

function errors(filter: unknown): readonly FilterError[] {
  const compiled = compileFilter(filter)
  return compiled.kind === 'invalid' ? compiled.errors : []
}

function nested(depth: number): unknown {
  let filter: unknown = { type: 'x' }
  for (let i = 0; i < depth; i += 1) filter = { $and: [filter] }
  return filter
}

function nestedBelow(operator: string, depth: number): unknown {
  let operand: unknown = { $gt: 1 }
  for (let i = 0; i < depth; i += 1) operand = { [operator]: operand }
  return { 'body.a': operand }
}

const cyclic: Record<string, unknown> = {}
cyclic.$not = cyclic
const cyclicList: unknown[] = []
cyclicList.push(cyclicList)
let laughs: unknown = 'lol'
for (let i = 0; i < 15; i += 1) laughs = Array.from({ length: 10 }, () => laughs)

test.each<[filter: unknown, path: string, message: string]>([
  [{ body: { amount: { $gtt: 5 } } }, 'filter.body.amount.$gtt', 'unknown operator "$gtt"; did you mean "$gt"?'],
  [{ 'body.amount': { $startwith: 'a' } }, 'filter.body.amount.$startwith', 'did you mean "$startsWith"?'],
  [{ 'body.amount': { $where: 'x' } }, 'filter.body.amount.$where', 'unknown operator "$where"'],
  [{ 'body.amount': { $constructor: 1 } }, 'filter.body.amount.$constructor', 'unknown operator "$constructor"'],
  [{ $xor: [] }, 'filter.$xor', 'unknown operator "$xor"; did you mean "$or"?'],
  [{ $gt: 5 }, 'filter.$gt', '"$gt" needs a field above it'],
  [{ body: { $or: [{ a: 1 }] } }, 'filter.body.$or', '"$or" stands above fields'],
  [{ bdy: { a: 1 } }, 'filter.bdy', 'unknown field "bdy"; did you mean "body"?'],
  [{ 'header.x-id': 'a' }, 'filter.header.x-id', 'unknown field "header"; did you mean "headers"?'],
  [{ amount: 5 }, 'filter.amount', 'unknown field "amount"'],
  [{ __proto__x: 1 }, 'filter.__proto__x', 'unknown field'],
  [JSON.parse('{"__proto__":{"a":1}}'), 'filter.__proto__', 'unknown field "__proto__"'],
  [{ constructor: 1 }, 'filter.constructor', 'unknown field "constructor"'],
  [{ 'body..a': 1 }, 'filter.body..a', 'empty part'],
  [{ $and: [] }, 'filter.$and', 'the list is empty'],
  [{ $or: { type: 'a' } }, 'filter.$or', 'not a list'],
  [{ $or: [{ type: 'a' }, {}] }, 'filter.$or.1', 'an empty condition'],
  [{ $or: [{ type: 'a' }, 'b'] }, 'filter.$or.1', 'not a filter'],
  [{ $not: {} }, 'filter.$not', 'an empty condition'],
  [{ $nor: [{ $and: [{ body: { a: { $size: -1 } } }] }] }, 'filter.$nor.0.$and.0.body.a.$size', 'not a length'],
  [{ body: {} }, 'filter.body', 'an empty condition'],
  [{ body: { a: {} } }, 'filter.body.a', 'an empty condition'],
  [{ body: { a: 1, $gt: 2 } }, 'filter.body', 'mixed'],
  [{ 'body.a': { $gt: null } }, 'filter.body.a.$gt', 'only numbers and strings'],
  [{ 'body.a': { $lte: [1] } }, 'filter.body.a.$lte', 'only numbers and strings'],
  [{ 'body.a': { $in: 'x' } }, 'filter.body.a.$in', 'not a list'],
  [{ 'body.a': { $in: [] } }, 'filter.body.a.$in', 'the list is empty'],
  [{ 'body.a': { $all: [] } }, 'filter.body.a.$all', 'the list is empty'],
  [{ 'body.a': { $in: [1, NaN] } }, 'filter.body.a.$in.1', 'no JSON number'],
  [{ 'body.a': { $in: [1, { b: [undefined] }] } }, 'filter.body.a.$in.1.b.0', 'not a JSON value'],
  [{ 'body.a': { $exists: 'true' } }, 'filter.body.a.$exists', 'not a boolean'],
  [{ 'body.a': { $exists: 1 } }, 'filter.body.a.$exists', 'not a boolean'],
  [{ 'body.a': { $size: 1.5 } }, 'filter.body.a.$size', 'not a length'],
  [{ 'body.a': { $regex: /x/ } }, 'filter.body.a.$regex', 'not a pattern'],
  [{ 'body.a': { $regex: '' } }, 'filter.body.a.$regex', 'not a pattern'],
  [{ 'body.a': { $regex: '(' } }, 'filter.body.a.$regex', 'not a valid pattern: missing closing )'],
  [{ 'body.a': { $regex: '(a)\\1' } }, 'filter.body.a.$regex', 'not a valid pattern'],
  [{ 'body.a': { $regex: '(?=a)' } }, 'filter.body.a.$regex', 'not a valid pattern'],
  [{ 'body.a': { $regex: 'a', $options: 'ix' } }, 'filter.body.a.$regex', 'unknown option "x"'],
  [{ 'body.a': { $regex: 'a', $options: 5 } }, 'filter.body.a.$options', 'not a string'],
  [{ 'body.a': { $options: 'i' } }, 'filter.body.a.$options', 'stands alone'],
  [{ 'body.a': { $not: 'x' } }, 'filter.body.a.$not', 'no operators'],
  [{ 'body.a': { $not: { b: 1 } } }, 'filter.body.a.$not', 'no operators'],
  [{ 'body.a': { $not: { $gtt: 1 } } }, 'filter.body.a.$not.$gtt', 'unknown operator'],
  [{ 'body.a': { $elemMatch: 'x' } }, 'filter.body.a.$elemMatch', 'not a filter'],
  [{ 'body.a': { $elemMatch: {} } }, 'filter.body.a.$elemMatch', 'an empty condition'],
  [{ 'body.a': { $elemMatch: { b: { $gtt: 1 } } } }, 'filter.body.a.$elemMatch.b.$gtt', 'unknown operator'],
  [{ 'body.a': { $elemMatch: { $gt: 1, b: 2 } } }, 'filter.body.a.$elemMatch.$gt', 'needs a field above it'],
  [{ 'body.a': { $startsWith: '' } }, 'filter.body.a.$startsWith', 'not a string with characters'],
  [{ 'body.a': { $ieq: 5 } }, 'filter.body.a.$ieq', 'not a string with characters'],
  [{ 'body.a': { $wildcard: 'a\\b' } }, 'filter.body.a.$wildcard', 'a backslash before an ordinary character'],
  [{ 'body.a': { $wildcard: 'a\\' } }, 'filter.body.a.$wildcard', 'a backslash before an ordinary character'],
  [{ 'body.a': { $cidr: '10.0.0.0' } }, 'filter.body.a.$cidr', 'write "10.0.0.0/32"'],
  [{ 'body.a': { $cidr: '10.0.0.1/8' } }, 'filter.body.a.$cidr', 'did you mean "10.0.0.0/8"?'],
  [{ 'body.a': { $cidr: ['10.0.0.0/8', '10.0.0.0/33'] } }, 'filter.body.a.$cidr.1', 'no prefix length from 0 to 32'],
  [{ 'body.a': { $cidr: ['10.0.0.0/8', 7] } }, 'filter.body.a.$cidr.1', 'a network is a string'],
  [{ 'body.a': { $cidr: 'fe80::%eth0/10' } }, 'filter.body.a.$cidr', ''],
  [{ 'body.a': { $cidr: '10.1/16' } }, 'filter.body.a.$cidr', 'is no network'],
  [{ 'body.a': { $cidr: [] } }, 'filter.body.a.$cidr', 'not between 1 and 100 networks'],
  [{ 'body.a': 2 ** 53 }, 'filter.body.a', 'too large to be exact'],
  [{ 'body.a': 5n }, 'filter.body.a', 'not a JSON value'],
  [{ 'body.a': undefined }, 'filter.body.a', 'not a JSON value'],
  [{ 'body.a': new Date(0) }, 'filter.body.a', 'not a JSON value'],
  [{ 'body.a': 'x'.repeat(operandLengthMax + 1) }, 'filter.body.a', 'longer than'],
  [{ type: 5 }, 'filter.type', 'strings only'],
  [{ type: null }, 'filter.type', 'strings only'],
  [{ type: { a: 'x' } }, 'filter.type.a', 'type is a string'],
  [{ 'type.a': 'x' }, 'filter.type.a', 'type is a string'],
  [{ path: { $size: 1 } }, 'filter.path.$size', 'never a list'],
  [{ source: { $elemMatch: { $eq: 'x' } } }, 'filter.source.$elemMatch', 'never a list'],
  [{ headers: 'x' }, 'filter.headers', 'holds named values'],
  [{ headers: { $exists: true } }, 'filter.headers', 'holds named values'],
  [{ headers: { 'x-id': 5 } }, 'filter.headers.x-id', 'strings only'],
  [{ headers: { 'x-id': { a: 'b' } } }, 'filter.headers.x-id.a', 'is a string'],
  [{ query: { n: { $gt: 5 } } }, 'filter.query.n.$gt', 'strings only'],
  [{ query: { n: { $in: ['a', 5] } } }, 'filter.query.n.$in.1', 'strings only'],
  [{ query: { n: { $elemMatch: { $gt: 5 } } } }, 'filter.query.n.$elemMatch.$gt', 'strings only'],
  [{ query: { n: { $elemMatch: { a: 'b' } } } }, 'filter.query.n.$elemMatch', 'without fields'],
  ['x', 'filter', 'not a filter'],
  [null, 'filter', 'not a filter'],
  [[], 'filter', 'not a filter'],
  [undefined, 'filter', 'not a filter'],
  [new Map(), 'filter', 'not a filter'],
])('mistake %#', (filter, path, message) => {
  const [first, ...more] = errors(filter)
  expect(more).toEqual([])
  expect(first).toEqual({
    path,
    at: expect.any(Array),
    message: expect.stringContaining(message),
    expected: expect.stringMatching(/./),
  })
  expect(['filter', ...(first?.at ?? [])].join('.')).toBe(path)
})

test('an error leads to its key by key, so that a dotted key stays one', () => {
  expect(errors({ $or: [{ 'body.a.b': { $gtt: 1 } }] })[0]?.at).toEqual(['$or', 0, 'body.a.b', '$gtt'])
})

test('all mistakes are told at once, up to a bound', () => {
  expect(errors({ bdy: 1, type: 5, 'body.a': { $gtt: 1, $size: 'x' } })).toHaveLength(4)
  expect(errors(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`x${i}`, 1])))).toHaveLength(filterErrorsMax)
})

test('depth, size, lists and patterns are bounded', () => {
  expect(errors(nested(filterDepthMax - 1))).toEqual([])
  expect(errors(nested(filterDepthMax))[0]?.message).toContain('nested deeper')
  expect(errors(nested(10_000))[0]?.message).toContain('nested deeper')
  for (const operator of ['$not', '$elemMatch', 'x']) {
    expect(errors(nestedBelow(operator, filterDepthMax - 1))).toEqual([])
    expect(errors(nestedBelow(operator, filterDepthMax))[0]?.message).toContain('nested deeper')
    expect(errors(nestedBelow(operator, 10_000))[0]?.message).toContain('nested deeper')
  }
  expect(errors(cyclic)[0]?.message).toContain('nested deeper')
  expect(errors({ 'body.a': cyclicList })[0]?.message).toContain('nested deeper')
  expect(errors({ 'body.a': laughs })[0]?.message).toContain('more than')
  expect(errors({ $or: Array.from({ length: 1_000_000 }, () => ({ type: 'x' })) })[0]?.message).toContain(
    `more than ${filterNodesMax}`,
  )
  expect(errors({ 'body.a': { $in: Array.from({ length: operandListMax }, (_, i) => i) } })).toEqual([])
  expect(errors({ 'body.a': { $in: Array.from({ length: operandListMax + 1 }, (_, i) => i) } })[0]?.message).toContain(
    'more than',
  )
  const structures = { 'body.a': { $in: Array.from({ length: 300 }, () => ({})) } }
  const all = { 'body.a': { $all: Array.from({ length: 300 }, (_, i) => i) } }
  expect(errors(structures)).toEqual([])
  expect(errors({ $or: [structures, all] })).toMatchObject([
    { path: 'filter.$or.1.body.a.$all', message: expect.stringContaining(`more than ${filterNodesMax}`) },
  ])
  expect(errors({ 'body.a': { $regex: 'x'.repeat(patternLengthMax + 1) } })[0]?.message).toContain('longer than')
  expect(errors({ 'body.a': { $regex: 'x{300}' } })[0]?.message).toContain('too large')
  expect(errors({ $and: Array.from({ length: 3 }, () => ({ type: { $regex: 'x{200}' } })) })[0]?.message).toContain(
    'together',
  )
})

test('an order of strings that look like numbers is a warning, not an error', () => {
  const compiled = compileFilter({ query: { page: { $gt: '9' } }, 'body.at': { $gt: '2026-01-01' } })
  expect(compiled).toMatchObject({
    kind: 'compiled',
    warnings: [{ path: 'filter.query.page.$gt', at: ['query', 'page', '$gt'] }],
  })
})

test('any value at all is compiled or refused, never thrown over', () => {
  const operators = fc.constantFrom(
    '$eq',
    '$gt',
    '$in',
    '$regex',
    '$options',
    '$not',
    '$elemMatch',
    '$and',
    '$or',
    '$cidr',
    '$wildcard',
    '$size',
    '$all',
    '$exists',
    'body',
    'body.a',
    'headers',
    'query.x',
    'type',
    '__proto__',
    '',
  )
  const filter = fc.oneof(
    fc.anything(),
    fc.object({
      key: operators,
      maxDepth: 5,
      values: [fc.anything(), fc.string({ unit: 'binary' }), fc.constantFrom('(', '10.0.0.0/8', '*')],
    }),
  )
  fc.assert(
    fc.property(filter, (value) => {
      expect(['compiled', 'invalid']).toContain(compileFilter(value).kind)
    }),
    { numRuns: 5_000 },
  )
})
