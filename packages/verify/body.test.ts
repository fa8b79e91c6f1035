import { describe, expect, it } from 'vitest'
import { bodyReader, pairsMax } from './body.ts'

const json = (text: string | Buffer) => bodyReader('application/json', Buffer.from(text))
const form = (text: string) => bodyReader('application/x-www-form-urlencoded; charset=utf-8', Buffer.from(text))

describe('a JSON body', () => {
  it('gives the strings and numbers at a path, through arrays by number or all at once', () => {
    const at = json('{"id":7,"a":{"b":"x"},"items":[{"n":1},{"n":"2"}]}')
    expect(at('id')).toEqual(['7'])
    expect(at('a.b')).toEqual(['x'])
    expect(at('items.1.n')).toEqual(['2'])
    expect(at('items.*.n')).toEqual(['1', '2'])
    expect(json('[{"n":1}]')('*.n')).toEqual(['1'])
  })

  it('gives nothing for what is absent, of another kind, or only in some items', () => {
    const at = json('{"a":null,"b":true,"c":{"d":1},"items":[{"n":1},{}],"none":[]}')
    for (const path of [
      'x',
      'a',
      'b',
      'c',
      'c.d.e',
      'items',
      'items.*.n',
      'items.*',
      'none.*',
      'none.0',
      'items.-1',
      'items.01',
      'c.*',
      '',
      '.',
      'constructor',
      '__proto__',
      'c.toString',
      'items.length',
    ])
      expect(at(path), path).toBeUndefined()
  })

  it('gives nothing for integers the parser has rounded: two ids would become one', () => {
    expect(json('{"id":9007199254740991}')('id')).toEqual(['9007199254740991'])
    expect(json('{"id":9007199254740993}')('id')).toBeUndefined()
  })

  it('is read past a byte order mark and never throws on what is no JSON', () => {
    expect(json('\ufeff{"id":"1"}')('id')).toEqual(['1'])
    for (const text of ['', '{', 'null', '"x"', '\u0000', '['.repeat(100_000), Buffer.from([0xff, 0xfe])])
      expect(json(text)('id')).toBeUndefined()
    expect(json(JSON.stringify({ id: '1', pad: 'x'.repeat(1_100_000) }))('id')).toBeUndefined()
  })
})

describe('a form body', () => {
  it('gives its fields, and enters a field that holds JSON', () => {
    const at = form('a.b=1&data%5Bid%5D=2&payload=%7B%22x%22%3A%7B%22y%22%3A3%7D%7D&empty')
    expect(at('a.b')).toEqual(['1'])
    expect(at('data[id]')).toEqual(['2'])
    expect(at('payload.x.y')).toEqual(['3'])
    expect(at('empty')).toEqual([''])
    for (const path of ['x', 'a', 'payload.z', 'a.b.c', '__proto__', 'empty.x']) expect(at(path), path).toBeUndefined()
  })

  it('gives nothing for a repeated field, nor for more fields than anyone sends', () => {
    expect(form('id=1&id=2&x=3')('id')).toBeUndefined()
    expect(form(`${'a&'.repeat(pairsMax)}id=1`)('id')).toBeUndefined()
  })
})
