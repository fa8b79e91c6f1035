import fc from 'fast-check'
import { Query } from 'mingo'
import { expect, test } from 'vitest'

import { compileFilter, type Filter } from './filter.ts'
import { buildSubject, type Subject } from './subject.ts'

function compile(filter: unknown): Filter {
  const compiled = compileFilter(filter)
  if (compiled.kind === 'invalid')
    throw new Error(compiled.errors.map((error) => `${error.path}: ${error.message}`).join('\n'))
  return compiled.filter
}

function subjectOf(body: unknown): Subject {
  return buildSubject({
    body: Buffer.from(JSON.stringify(body)),
    headers: [],
    query: 'a=1&a=2',
    path: '/a',
    type: 'a',
    source: 's',
  })
}

const scalar = fc.oneof(
  fc.integer({ min: -2, max: 3 }),
  fc.constantFrom('', 'x', 'y', 'xy', 'X', '1'),
  fc.boolean(),
  fc.constant(null),
)
const present = scalar.filter((value) => value !== null)
const key = fc.constantFrom('a', 'b', 'c')

/**
 * Documents on which mingo is MongoDB. It differs, and we follow MongoDB (examples in filter.test.ts), where a path goes
 * through a list and ends at a list or nowhere, and where `$elemMatch` meets an element that is no object. So no way
 * leads through two lists, `o` is never a list, and the lists in `l` hold objects only.
 */
const flat = fc.dictionary(key, scalar, { maxKeys: 3, noNullPrototype: true })
const { object } = fc.letrec<{ inList: unknown; object: Record<string, unknown> }>((tie) => ({
  inList: fc.oneof({ maxDepth: 2 }, scalar, fc.dictionary(key, tie('inList'), { maxKeys: 3, noNullPrototype: true })),
  object: fc.record(
    {
      a: fc.oneof({ maxDepth: 3 }, scalar, fc.array(tie('inList'), { maxLength: 3 }), tie('object')),
      b: fc.oneof({ maxDepth: 3 }, scalar, fc.array(tie('inList'), { maxLength: 3 }), tie('object')),
      c: scalar,
      o: fc.oneof({ maxDepth: 3 }, scalar, tie('object')),
      l: fc.array(flat, { maxLength: 3 }),
    },
    { requiredKeys: [], noNullPrototype: true },
  ),
}))

/** Through lists or not. */
const path = fc
  .tuple(fc.constantFrom('a', 'b', 'o', 'l'), fc.array(fc.constantFrom('a', 'b', 'c', 'o', '0', '1'), { maxLength: 3 }))
  .map(([first, rest]) => [first, ...rest].join('.'))
/** Through objects only, perhaps to a list. */
const direct = fc
  .tuple(fc.array(fc.constant('o'), { maxLength: 2 }), fc.constantFrom('a', 'b', 'c', 'o', 'l'))
  .map(([above, last]) => [...above, last].join('.'))
const directList = fc.array(fc.constant('o'), { maxLength: 2 }).map((above) => [...above, 'l'].join('.'))
const ordered = fc.oneof(fc.integer({ min: -2, max: 3 }), fc.constantFrom('x', 'y', 'xy'))

type Operator = [name: string, operand: unknown]
/** `null` operands are left out: in MongoDB they match what is absent. */
const comparison: fc.Arbitrary<Operator> = fc.oneof(
  fc.tuple(fc.constant('$eq'), present),
  fc.tuple(fc.constantFrom('$gt', '$gte', '$lt', '$lte'), ordered),
  fc.tuple(fc.constant('$in'), fc.array(present, { minLength: 1, maxLength: 3 })),
  fc.tuple(fc.constant('$regex'), fc.constantFrom('x', '^x', 'y$', '[xy]{2}', '^$')),
)
const structural: fc.Arbitrary<Operator> = fc.oneof(
  fc.tuple(fc.constant('$eq'), fc.array(scalar, { maxLength: 2 })),
  fc.tuple(fc.constant('$exists'), fc.boolean()),
  fc.tuple(fc.constant('$size'), fc.integer({ min: 0, max: 3 })),
  fc.tuple(
    fc.constant('$elemMatch'),
    fc.tuple(ordered, ordered).map(([low, high]) => ({ $gt: low, $lt: high })),
  ),
)
const operator = fc.oneof(comparison, structural)

interface Both {
  /** With fields of the document. */
  mongo: Record<string, unknown>
  /** The same with `body.` before them. */
  ours: Record<string, unknown>
}

function field(name: string, operators: Record<string, unknown>): Both {
  return { mongo: { [name]: operators }, ours: { [`body.${name}`]: operators } }
}

const placed = fc.oneof(fc.tuple(path, comparison), fc.tuple(direct, structural))
const condition: fc.Arbitrary<Both> = fc.oneof(
  placed.map(([name, [op, operand]]) => field(name, { [op]: operand })),
  placed.map(([name, [op, operand]]) => field(name, { $not: { [op]: operand } })),
  fc
    .tuple(path, fc.array(comparison, { minLength: 2, maxLength: 3 }))
    .map(([name, list]) => field(name, Object.fromEntries(list))),
  // Ours need the field to be there, so that is said to MongoDB.
  fc
    .oneof(
      fc.tuple(direct, fc.constant('$ne'), present),
      fc.tuple(direct, fc.constant('$nin'), fc.array(present, { minLength: 1, maxLength: 3 })),
    )
    .map(([name, op, operand]) => ({
      ours: { [`body.${name}`]: { [op]: operand } },
      mongo: { $and: [{ [name]: { [op]: operand } }, { [name]: { $exists: true } }] },
    })),
  // mingo's $all wants a list; MongoDB's is defined as this $and.
  fc.tuple(path, fc.array(present, { minLength: 1, maxLength: 2 })).map(([name, list]) => ({
    ours: { [`body.${name}`]: { $all: list } },
    mongo: { $and: list.map((one) => ({ [name]: one })) },
  })),
  fc
    .tuple(
      directList,
      fc.dictionary(
        key,
        fc.oneof(
          present,
          comparison.map(([op, operand]) => ({ [op]: operand })),
        ),
        { minKeys: 1, maxKeys: 2, noNullPrototype: true },
      ),
    )
    .map(([name, query]) => field(name, { $elemMatch: query })),
)

const { filter } = fc.letrec<{ filter: Both }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    condition,
    fc
      .tuple(fc.constantFrom('$and', '$or', '$nor'), fc.array(tie('filter'), { minLength: 1, maxLength: 3 }))
      .map(([op, parts]) => ({
        ours: { [op]: parts.map((part) => part.ours) },
        mongo: { [op]: parts.map((part) => part.mongo) },
      })),
  ),
}))

test('filters match as in MongoDB, where we mean to agree with it', () => {
  let matched = 0
  const runs = 4_000
  fc.assert(
    fc.property(object, filter, (document, { ours, mongo }) => {
      const expected = new Query(mongo, {}).test(document)
      if (expected) matched += 1
      expect(compile(ours).matches(subjectOf(document))).toBe(expected)
    }),
    { numRuns: runs },
  )
  // Neither answer may be so rare that the comparison says nothing.
  expect(matched).toBeGreaterThan(runs / 10)
  expect(matched).toBeLessThan((runs * 9) / 10)
})

/** Every operator and every root, well-formed or not: what compiles is evaluated. */
const anyFilter = fc.object({
  key: fc.constantFrom(
    'body',
    'body.a',
    'body.b.c',
    'a',
    'b',
    'headers.a',
    'query.a',
    'type',
    'path',
    '$or',
    '$and',
    '$nor',
    '$not',
    '$eq',
    '$ne',
    '$gt',
    '$lte',
    '$in',
    '$nin',
    '$exists',
    '$regex',
    '$all',
    '$size',
    '$elemMatch',
    '$startsWith',
    '$wildcard',
    '$ieq',
    '$cidr',
  ),
  values: [scalar, fc.constantFrom('x*', '10.0.0.0/8', 'a')],
  maxDepth: 5,
})
const mixed = fc.oneof(
  filter.map(({ ours }) => ours),
  anyFilter,
  fc
    .tuple(
      filter,
      fc.constantFrom('body.a', 'query.a', 'type'),
      fc.constantFrom(
        { $wildcard: 'x*' },
        { $startsWith: 'a' },
        { $not: { $ieq: 'X' } },
        { $ne: 'a' },
        { $cidr: '::/0' },
      ),
    )
    .map(([{ ours }, name, test]) => ({ $nor: [{ $not: ours }, { [name]: test }] })),
)

test('explain always says what matches says, in small JSON', () => {
  let compiledCount = 0
  fc.assert(
    fc.property(fc.oneof(object, fc.jsonValue()), mixed, (document, candidate) => {
      const compiled = compileFilter(candidate)
      if (compiled.kind === 'invalid') return
      compiledCount += 1
      const subject = subjectOf(document)
      const explanation = compiled.filter.explain(subject)
      expect(explanation.matched).toBe(compiled.filter.matches(subject))
      expect(JSON.stringify(explanation).length).toBeLessThan(20_000)
    }),
    { numRuns: 4_000 },
  )
  expect(compiledCount).toBeGreaterThan(2_000)
})

test('$not and $nor are exact complements', () => {
  fc.assert(
    fc.property(object, filter, (document, { ours }) => {
      const subject = subjectOf(document)
      const matched = compile(ours).matches(subject)
      expect(compile({ $not: ours }).matches(subject)).toBe(!matched)
      expect(compile({ $nor: [ours] }).matches(subject)).toBe(!matched)
      expect(compile({ $or: [ours, { $not: ours }] }).matches(subject)).toBe(true)
    }),
    { numRuns: 1_000 },
  )
})

test('nested and dotted form are one', () => {
  fc.assert(
    fc.property(object, path, operator, (document, name, [op, operand]) => {
      const nested = name.split('.').reduceRight<unknown>((inner, part) => ({ [part]: inner }), { [op]: operand })
      const subject = subjectOf(document)
      expect(compile({ body: nested }).matches(subject)).toBe(
        compile({ [`body.${name}`]: { [op]: operand } }).matches(subject),
      )
    }),
    { numRuns: 1_000 },
  )
})

test('an absent field never matches a comparison', () => {
  const comparison = fc.oneof(
    operator.filter(([op]) => op !== '$exists'),
    fc.tuple(fc.constant('$all'), fc.array(scalar, { minLength: 1, maxLength: 2 })),
    fc.tuple(fc.constantFrom('$eq', '$ne'), scalar),
    fc.tuple(fc.constantFrom('$in', '$nin'), fc.array(scalar, { minLength: 1, maxLength: 2 })),
    fc.constantFrom<[string, unknown][]>(
      ['$startsWith', 'x'],
      ['$endsWith', 'x'],
      ['$wildcard', '*'],
      ['$ieq', 'x'],
      ['$cidr', '::/0'],
      ['$elemMatch', { $exists: true }],
    ),
  )
  fc.assert(
    fc.property(object, path, comparison, (document, name, [op, operand]) => {
      expect(compile({ [`body.${name}.absent`]: { [op]: operand } }).matches(subjectOf(document))).toBe(false)
    }),
    { numRuns: 1_000 },
  )
})
