import fc from 'fast-check'
import { expect, test } from 'vitest'

import { parseXml, xmlDepthMax, xmlEncoding, xmlValuesMax } from './xml.ts'

interface Tree {
  name: string
  attributes: Record<string, string>
  children: Tree[]
  text: string
  cdata: boolean
}

function valueOf(text: string): unknown {
  const outcome = parseXml(text)
  if (outcome.kind === 'unparsed') throw new Error(outcome.reason)
  return outcome.value
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&#62;')
    .replaceAll('"', '&quot;')
    .replaceAll('\r', '&#xD;')
}

function write({ name, attributes, children, text, cdata }: Tree): string {
  const list = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${escape(value).replaceAll('\n', '&#10;').replaceAll('\t', '&#9;')}"`,
  )
  const content = cdata && !text.includes(']]>') && !text.includes('\r') ? `<![CDATA[${text}]]>` : escape(text)
  return `<${name}${list.join('')}>${children.map(write).join('<!-- x -->')}${content}</${name}>`
}

/** The documented shape, said a second time. */
function shape({ attributes, children, text }: Tree): unknown {
  const trimmed = text.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '')
  if (Object.keys(attributes).length === 0 && children.length === 0) return trimmed
  const object: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(attributes)) object[`@_${key}`] = value
  const lists = new Map<string, unknown[]>()
  for (const child of children) lists.set(child.name, [...(lists.get(child.name) ?? []), shape(child)])
  for (const [name, values] of lists) object[name] = values.length === 1 ? values[0] : values
  if (trimmed !== '') object['#text'] = trimmed
  return object
}

const names = fc.constantFrom('a', 'b', 'item', 'soap:Body', 'x-y', 'constructor', '_1')
const text = fc.string({
  unit: fc.constantFrom('a', 'é', '😀', '&', '<', '>', '"', "'", ' ', '\n', '\r', '\t', ']', ';', '1'),
})
const { tree } = fc.letrec<{ tree: Tree; children: Tree[] }>((tie) => ({
  tree: fc.record({
    name: names,
    attributes: fc.dictionary(fc.constantFrom('id', 'xml:lang', 'toString'), text, { noNullPrototype: true }),
    children: tie('children'),
    text,
    cdata: fc.boolean(),
  }),
  children: fc.oneof({ maxDepth: 4 }, fc.constant<Tree[]>([]), fc.array(tie('tree'), { maxLength: 4 })),
}))

test('a tree that was written is read back', () => {
  fc.assert(
    fc.property(tree, (root) => {
      expect(valueOf(`<?xml version="1.0"?>\n${write(root)}\n`)).toEqual({ [root.name]: shape(root) })
    }),
    { numRuns: 1_000 },
  )
})

test('any text is parsed or refused, never thrown over', () => {
  const pieces = fc.constantFrom(
    '<',
    '>',
    '/',
    '<a>',
    '</a>',
    '<a',
    ' b=',
    '"',
    "'",
    '&',
    '&amp;',
    '&#',
    ';',
    '<!--',
    '-->',
    '<![CDATA[',
    ']]>',
    '<?',
    '?>',
    '<!DOCTYPE',
    '[',
    'x',
    ' ',
    '\u0000',
    '\ud800',
    '\uffff',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.array(pieces).map((parts) => parts.join('')),
      ),
      (input) => {
        expect(['parsed', 'unparsed']).toContain(parseXml(input).kind)
      },
    ),
    { numRuns: 3_000 },
  )
})

test('text alone is a string, attributes are @_name, text beside them #text, repeated elements a list', () => {
  expect(
    valueOf('<order id="7"><total currency="EUR">12.50</total><item>a</item><item> b </item><note/></order>'),
  ).toEqual({
    order: { '@_id': '7', total: { '@_currency': 'EUR', '#text': '12.50' }, item: ['a', 'b'], note: '' },
  })
})

test('elements named like object members are elements', () => {
  expect(valueOf('<r><constructor>a</constructor><toString>b</toString></r>')).toEqual({
    r: { constructor: 'a', toString: 'b' },
  })
  const value = valueOf('<r><__proto__><admin>1</admin></__proto__></r>') as { r: object }
  expect(Object.getPrototypeOf(value.r)).toBeNull()
  expect(Object.keys(value.r)).toEqual(['__proto__'])
})

test.each([
  '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><lolz>&lol2;</lolz>',
  '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
  '<!DOCTYPE r SYSTEM "http://127.0.0.1/x.dtd"><r/>',
  '<?xml version="1.0"?><!-- c --><!DOCTYPE r><r/>',
])('a document type declaration is refused: %s', (document) => {
  expect(parseXml(document)).toMatchObject({ kind: 'unparsed', code: 'doctype_refused' })
})

test('a document type declaration inside CDATA is text', () => {
  expect(valueOf('<r><![CDATA[<!DOCTYPE html><p>]]></r>')).toEqual({ r: '<!DOCTYPE html><p>' })
})

test.each([
  '<r>&nbsp;</r>',
  '<r>&constructor;</r>',
  '<r>&toString;</r>',
  '<a><b></a></b>',
  '<a>',
  '<a/><b/>',
  '<a x="1" x="2"/>',
  '<a x=1/>',
  'x',
  '',
  '<r>&#0;</r>',
  '<!DOCTYPE [<',
  '<!DOCTYPE r [<!',
])('what is not well-formed is refused: %s', (document) => {
  expect(parseXml(document)).toMatchObject({ kind: 'unparsed', code: 'malformed' })
})

test('nesting is read to its bound and refused one level beyond', () => {
  const nested = (depth: number) => `${'<a>'.repeat(depth)}${'</a>'.repeat(depth)}`
  expect(parseXml(nested(xmlDepthMax))).toMatchObject({ kind: 'parsed' })
  expect(parseXml(nested(xmlDepthMax + 1))).toMatchObject({ kind: 'unparsed', code: 'too_deep' })
  expect(parseXml('<a>'.repeat(300_000))).toMatchObject({ kind: 'unparsed', code: 'too_deep' })
})

test('more elements or attributes than the bound are refused', () => {
  expect(parseXml(`<r>${'<a/>'.repeat(xmlValuesMax)}</r>`)).toMatchObject({ code: 'too_many_values' })
  const attributes = Array.from({ length: xmlValuesMax + 1 }, (_, i) => `a${i}=""`).join(' ')
  expect(parseXml(`<r ${attributes}/>`)).toMatchObject({ code: 'too_many_values' })
})

test('a hostile mebibyte takes time in proportion to its length', () => {
  const size = 1_048_576
  const begin = performance.now()
  for (const piece of [
    '<',
    '<a ',
    '<!--',
    '<![CDATA[',
    '<![CDATA[]]>',
    '&',
    '&a',
    '&amp;',
    '<?a ',
    'a="',
    ']]',
    '\r\n',
    ' ',
    '-',
    '<a/>',
  ]) {
    const run = piece.repeat(Math.floor(size / piece.length))
    for (const document of [
      run,
      `<r>${run}`,
      `<r>${run}</r>`,
      `<r ${run}/>`,
      `<r a="${run}"/>`,
      `<r><!--${run}--></r>`,
    ])
      parseXml(document)
  }
  // 90 documents at 10 to 30 ms; the square of a mebibyte would take minutes for one.
  expect(performance.now() - begin).toBeLessThan(15_000)
}, 60_000)

test('the encoding a declaration names is found', () => {
  expect(xmlEncoding(Buffer.from('<?xml version="1.0" encoding="ISO-8859-1"?><r/>'))).toBe('ISO-8859-1')
  expect(xmlEncoding(Buffer.from('\ufeff<?xml version="1.0" encoding=\'utf-8\' ?><r/>'))).toBe('utf-8')
  expect(xmlEncoding(Buffer.from('<r encoding="x"/>'))).toBeUndefined()
})
