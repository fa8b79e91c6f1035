import { describe, expect, it } from 'vitest'
import { dedupeKeyOf, typeOf } from './event-fields.ts'
import { readInbound } from './inbound.ts'

function originOf(body: unknown, headers: [string, string][] = [], signedId?: string) {
  return {
    inbound: readInbound({ method: 'POST', url: '/', headers, body: Buffer.from(JSON.stringify(body)) }),
    signedId,
  }
}
const path = (steps: string) => ({ path: steps })

describe('a dedupe key', () => {
  it('is the first alternative whose parts are all there and not empty', () => {
    const alternatives = [[path('a'), path('b')], [{ header: 'X-Id' }], ['bodyHash' as const]]
    expect(dedupeKeyOf(alternatives, originOf({ a: 1, b: 'x' }))).toBe('1:x')
    expect(dedupeKeyOf(alternatives, originOf({ a: 1, b: '' }, [['x-id', 'h']]))).toBe('h')
    expect(dedupeKeyOf(alternatives, originOf({ a: 1 }))).toMatch(/^[0-9a-f]{64}$/)
    expect(dedupeKeyOf([[path('a')]], originOf({}))).toBeUndefined()
    expect(dedupeKeyOf([['signedId']], originOf({}, [], 's'))).toBe('s')
    expect(dedupeKeyOf([['signedId']], originOf({}))).toBeUndefined()
  })

  it('takes no header that is repeated', () => {
    expect(
      dedupeKeyOf(
        [[{ header: 'X-Id' }]],
        originOf({}, [
          ['x-id', 'a'],
          ['X-Id', 'a'],
        ]),
      ),
    ).toBeUndefined()
  })

  it('holds every item of a batch, and is hashed when it is long or holds control characters', () => {
    const items = Array.from({ length: 100 }, (_, n) => ({ id: `item-${n}` }))
    expect(dedupeKeyOf([[path('*.id')]], originOf(items.slice(0, 2)))).toBe('item-0,item-1')
    const long = dedupeKeyOf([[path('*.id')]], originOf(items))
    expect(long).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(dedupeKeyOf([[path('*.id')]], originOf(items.toReversed()))).not.toBe(long)
    expect(dedupeKeyOf([[path('id')]], originOf({ id: 'a\u0000b' }))).toMatch(/^sha256:/)
  })
})

describe('a type', () => {
  it('joins its parts', () => {
    expect(typeOf([[{ text: 'call' }, path('status')]], originOf({ status: 'busy' }))).toBe('call.busy')
  })

  it('is absent for a batch of several, for what is too long, and for what holds control characters', () => {
    expect(typeOf([[path('*.t')]], originOf([{ t: 'a' }, { t: 'a' }]))).toBe('a')
    expect(typeOf([[path('*.t')]], originOf([{ t: 'a' }, { t: 'b' }]))).toBeUndefined()
    for (const t of ['x'.repeat(201), 'a\nb', 'a\u0000', ''])
      expect(typeOf([[path('t')]], originOf({ t }))).toBeUndefined()
  })
})
