import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatTraceparent, parseTraceparent } from './traceparent.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'

const hex = (digits: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: digits, maxLength: digits })
const id = (digits: number) => hex(digits).filter((text) => /[^0]/.test(text))
const context = fc.record({ traceId: id(32), spanId: id(16), sampled: fc.boolean() })

describe('a valid traceparent', () => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(context, (given) => {
        expect(parseTraceparent(formatTraceparent(given))).toEqual(given)
      }),
    )
  })

  test("gives the specification's example", () => {
    expect(parseTraceparent(`00-${traceId}-${spanId}-01`)).toEqual({ traceId, spanId, sampled: true })
  })

  test('is sampled by the lowest bit of its flags alone', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 255 }), (flags) => {
        const text = `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, '0')}`
        expect(parseTraceparent(text)?.sampled).toBe(flags % 2 === 1)
      }),
    )
  })

  test('of a later version is read by its first four fields, whatever follows', () => {
    const later = fc.integer({ min: 1, max: 254 }).map((version) => version.toString(16).padStart(2, '0'))
    fc.assert(
      fc.property(
        later,
        context,
        fc.option(fc.string({ maxLength: 50 }).filter((rest) => !/[\n\r\u2028\u2029]/.test(rest))),
        (version, given, rest) => {
          const text = `${version}${formatTraceparent(given).slice(2)}${rest === null ? '' : `-${rest}`}`
          expect(parseTraceparent(text)).toEqual(given)
        },
      ),
    )
  })
})

describe('what is no traceparent is refused:', () => {
  const valid = `00-${traceId}-${spanId}-01`
  test.each([
    ['nothing', undefined],
    ['an empty text', ''],
    ['an all-zero trace id', `00-${'0'.repeat(32)}-${spanId}-01`],
    ['an all-zero span id', `00-${traceId}-${'0'.repeat(16)}-01`],
    ['upper case', valid.toUpperCase()],
    ['version ff', `ff${valid.slice(2)}`],
    ['a fifth field in version 00', `${valid}-extra`],
    ['a short trace id', `00-${traceId.slice(1)}-${spanId}-01`],
    ['a long span id', `00-${traceId}-${spanId}0-01`],
    ['a missing flag', `00-${traceId}-${spanId}`],
    ['digits that are not hex', `00-${traceId.replace('4', 'g')}-${spanId}-01`],
    ['space around it', ` ${valid} `],
    ['a line break after it', `${valid}\n`],
    ['two headers joined', `${valid}, ${valid}`],
    ['a later version with text but no dash after the flags', `01${valid.slice(2)}00`],
    ['a later version without end', `01${valid.slice(2)}-${'x'.repeat(1000)}`],
  ])('%s', (_what, text) => {
    expect(parseTraceparent(text)).toBeUndefined()
  })

  test('any text at all is either refused or read into ids of the right form', () => {
    const nearMiss = fc.tuple(context, fc.nat(60), fc.string({ maxLength: 2 })).map(([given, at, put]) => {
      const text = formatTraceparent(given)
      return text.slice(0, at) + put + text.slice(at + 1)
    })
    fc.assert(
      fc.property(fc.oneof(fc.string(), nearMiss), (text) => {
        const parsed = parseTraceparent(text)
        if (parsed === undefined) return
        expect(parsed.traceId).toMatch(/^(?!0+$)[\da-f]{32}$/)
        expect(parsed.spanId).toMatch(/^(?!0+$)[\da-f]{16}$/)
      }),
    )
  })
})
