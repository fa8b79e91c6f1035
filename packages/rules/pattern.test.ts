import fc from 'fast-check'
import { expect, test } from 'vitest'

import { compileRegex, compileWildcard, type Pattern } from './pattern.ts'

function tester(pattern: Pattern): (text: string) => boolean {
  if (pattern.kind === 'invalid') throw new Error(pattern.message)
  return pattern.test
}

function elapsedMs(run: () => void): number {
  const begin = performance.now()
  run()
  return performance.now() - begin
}

test.each(['(a+)+$', '^(a|a)*$', '(a|aa)+$', '(.*a){12}$', '^(([a-z])+.)+[A-Z]([a-z])+$'])(
  '%s, exponential elsewhere, is linear here',
  (source) => {
    const matches = tester(compileRegex(source, ''))
    const text = `${'a'.repeat(50_000)}!`
    matches(text)
    expect(elapsedMs(() => expect(matches(text)).toBe(false))).toBeLessThan(1_000)
    // Ten times the text, far less than a hundred times the time.
    expect(elapsedMs(() => matches(text.repeat(10)))).toBeLessThan(10_000)
  },
)

test('a wildcard full of stars is linear too', () => {
  const matches = tester(compileWildcard(`${'*a'.repeat(50)}b`))
  expect(elapsedMs(() => expect(matches('a'.repeat(1_000_000))).toBe(false))).toBeLessThan(5_000)
})

test('a pattern without special characters finds what includes finds', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '😀', ' '), minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(
      letters,
      fc.string({ unit: fc.constantFrom('a', 'b', 'é', '😀', ' '), maxLength: 30 }),
      (part, text) => {
        expect(tester(compileRegex(part, ''))(text)).toBe(text.includes(part))
      },
    ),
    { numRuns: 1_000 },
  )
})

test('simple patterns match as in JavaScript', () => {
  const source = fc
    .array(
      fc.constantFrom('a', 'b', '.', 'a*', 'b+', '(?:ab)?', '[ab]', '[^a]', '(a|b)', '\\w', '^', '$', '\\b', 'a{1,2}'),
      { minLength: 1, maxLength: 6 },
    )
    .map((parts) => parts.join(''))
  const options = fc.subarray(['i', 'm', 's']).map((list) => list.join(''))
  fc.assert(
    fc.property(
      source,
      options,
      fc.string({ unit: fc.constantFrom('a', 'b', 'A', '-', '\n'), maxLength: 8 }),
      (pattern, flags, text) => {
        expect(tester(compileRegex(pattern, flags))(text)).toBe(new RegExp(pattern, `${flags}u`).test(text))
      },
    ),
    { numRuns: 2_000 },
  )
})

test('a wildcard matches as the walk over its characters says', () => {
  const unit = fc.constantFrom('a', 'b', '.', '(', '\n', '😀')
  const part = fc.oneof(unit, fc.constantFrom('*', '?', '\\*', '\\?', '\\\\'))
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 7 }),
      fc.array(fc.oneof(unit, fc.constantFrom('*', '?', '\\')), { maxLength: 7 }),
      (parts, text) => {
        expect(tester(compileWildcard(parts.join('')))(text.join(''))).toBe(walk(parts, text))
      },
    ),
    { numRuns: 3_000 },
  )
})

/** Backtracking over whole characters: slow, and plainly right. */
function walk([part, ...parts]: string[], text: string[]): boolean {
  if (part === undefined) return text.length === 0
  if (part === '*') return walk(parts, text) || (text.length > 0 && walk([part, ...parts], text.slice(1)))
  const [first, ...rest] = text
  return first !== undefined && (part === '?' || part.slice(-2).replace(/^\\/, '') === first) && walk(parts, rest)
}

test('any pattern is compiled or refused, and any text tested, without an exception', () => {
  const pieces = fc.constantFrom(
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '*',
    '+',
    '?',
    '|',
    '^',
    '$',
    '\\',
    '.',
    '-',
    'a',
    '1',
    ',',
    '(?',
    ':',
    '<',
    '=',
    '\\p{L}',
    '\\Q',
    '\\E',
    '\\x{',
    '\ud800',
  )
  const source = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(pieces, { maxLength: 12 }).map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(source, fc.string({ unit: 'binary' }), (pattern, text) => {
      for (const compiled of [compileRegex(pattern, 'i'), compileWildcard(pattern)]) {
        if (compiled.kind === 'pattern') expect([true, false]).toContain(compiled.test(text))
      }
    }),
    { numRuns: 3_000 },
  )
})
