import fc from 'fast-check'
import { expect, test } from 'vitest'

import { parseMultipart, partHeaderBytesMax, partsMax } from './multipart.ts'

function read(body: string | Buffer, boundary = 'b'): unknown {
  const outcome = parseMultipart(Buffer.from(body), boundary, 'utf-8')
  return outcome.kind === 'parsed' ? outcome.value : outcome.code
}

function part(name: string, content: string, more = ''): string {
  return `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${content}\r\n`
}

test('what FormData writes is read back: fields as strings, files by name, type and size', async () => {
  const names = fc.string({
    unit: fc.constantFrom('a', 'b', '"', '[', ']', '.', 'é', ' ', ';', '='),
    minLength: 1,
    maxLength: 6,
  })
  // CRLF only: FormData makes every line break of a field one.
  const content = fc.string({ unit: fc.constantFrom('a', '\r\n', '-', '--', 'é', '😀', '\u0000', '"'), maxLength: 12 })
  const bytes = fc.uint8Array({ maxLength: 40 })
  const field = fc.oneof(fc.record({ name: names, text: content }), fc.record({ name: names, bytes, filename: names }))
  await fc.assert(
    fc.asyncProperty(fc.array(field, { maxLength: 6 }), async (fields) => {
      const form = new FormData()
      const expected: Record<string, unknown[]> = {}
      for (const one of fields) {
        if ('text' in one) form.append(one.name, one.text)
        else form.append(one.name, new Blob([one.bytes], { type: 'image/png' }), one.filename)
        const value =
          'text' in one ? one.text : { filename: one.filename, contentType: 'image/png', size: one.bytes.length }
        expected[one.name] = [...(expected[one.name] ?? []), value]
      }
      const response = new Response(form)
      const boundary = /boundary=(.+)$/.exec(response.headers.get('content-type') ?? '')?.[1]
      const value = read(Buffer.from(await response.arrayBuffer()), boundary)
      expect(value).toEqual(
        Object.fromEntries(Object.entries(expected).map(([name, list]) => [name, list.length === 1 ? list[0] : list])),
      )
    }),
    { numRuns: 500 },
  )
})

test('any bytes are parsed or refused, never thrown over', () => {
  const pieces = fc.constantFrom(
    '--b',
    '--b--',
    '\r\n',
    '\r\n\r\n',
    '--',
    'Content-Disposition: form-data; name="a"',
    'name=',
    '"',
    ';',
    ':',
    '\\',
    'x',
    '\u0000',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        fc.array(pieces).map((parts) => Buffer.from(parts.join(''))),
      ),
      fc.constantFrom('b', '', undefined, '--'),
      (body, boundary) => {
        expect(['parsed', 'unparsed']).toContain(parseMultipart(body, boundary, 'utf-8').kind)
      },
    ),
    { numRuns: 3_000 },
  )
})

test('a preamble, blanks behind a boundary and an epilogue are skipped; no parts at all is an empty form', () => {
  expect(read(`hello\r\n${part('a', '1').replace('--b\r\n', '--b \t\r\n')}--b--\r\nbye`)).toEqual({ a: '1' })
  expect(read('--b--\r\n')).toEqual({})
})

test('a part may end with its headers', () => {
  expect(
    read(
      '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b\r\nContent-Disposition: form-data; name="c"\r\n\r\n\r\n--b--',
    ),
  ).toEqual({ a: '', c: '' })
})

test('content that begins like the boundary is content', () => {
  expect(read(`${part('a', 'x\r\n--bc\r\n--b-y')}--b--`)).toEqual({ a: 'x\r\n--bc\r\n--b-y' })
})

test('a file name of Windows, an escaped quote and a name in percent form are read', () => {
  expect(read(`${part('a%22\\"', 'x', '; filename="C:\\dir\\x.pdf"')}--b--`)).toEqual({
    'a""': { filename: 'C:\\dir\\x.pdf', contentType: undefined, size: 1 },
  })
})

test('a field whose bytes are not UTF-8 is shown like a file', () => {
  expect(
    read(
      Buffer.concat([
        Buffer.from('--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: x/y\r\n\r\n'),
        Buffer.from([0xff]),
        Buffer.from('\r\n--b--'),
      ]),
    ),
  ).toEqual({
    a: { filename: undefined, contentType: 'x/y', size: 1 },
  })
})

test('a field named __proto__ is a field', () => {
  const value = read(`${part('__proto__', 'x')}--b--`) as object
  expect(Object.getPrototypeOf(value)).toBeNull()
  expect(Object.entries(value)).toEqual([['__proto__', 'x']])
})

test.each([
  ['no closing boundary', part('a', '1')],
  ['cut inside a part', `${part('a', '1')}--b\r\nContent-Dispo`],
  ['no boundary at all', 'a=1'],
  ['a part without a name', '--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--'],
  ['a part without a disposition', '--b\r\nX: y\r\n\r\nx\r\n--b--'],
  [
    'headers that run into the next part',
    '--b\r\nContent-Disposition: form-data; name="a"\r\n--b\r\nX: y\r\n\r\nx\r\n--b--',
  ],
  ['endless part headers', `--b\r\nX: ${'x'.repeat(partHeaderBytesMax)}\r\n\r\nx\r\n--b--`],
])('%s is malformed', (_, body) => {
  expect(read(body)).toBe('malformed')
})

test('a boundary that is missing or longer than RFC 2046 allows is malformed', () => {
  expect(parseMultipart(Buffer.from('--b--'), undefined, 'utf-8')).toMatchObject({ code: 'malformed' })
  expect(read(`--${'b'.repeat(71)}--`, 'b'.repeat(71))).toBe('malformed')
})

test('more parts than the bound are refused', () => {
  expect(read(`${part('a', '').repeat(partsMax + 1)}--b--`)).toBe('too_many_values')
  expect(read(`${part('a', '').repeat(partsMax)}--b--`)).toMatchObject({ a: expect.any(Array) })
})

test('a hostile mebibyte takes time in proportion to its length', () => {
  const boundary = `${'-'.repeat(69)}x`
  const begin = performance.now()
  for (const piece of [
    '-',
    `\r\n--${boundary}`,
    `\r\n--${boundary} `,
    `\r\n--${boundary}\r\n`,
    '\r\n',
    `\r\n${'-'.repeat(71)}`,
    'name="',
  ]) {
    const run = piece.repeat(Math.floor(1_048_576 / piece.length))
    for (const body of [
      run,
      `--${boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n${run}`,
      `--${boundary}\r\nContent-Disposition: form-data; ${run}`,
    ]) {
      parseMultipart(Buffer.from(body), boundary, 'utf-8')
    }
  }
  expect(performance.now() - begin).toBeLessThan(5_000)
}, 30_000)
