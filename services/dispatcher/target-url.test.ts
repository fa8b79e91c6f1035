import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { targetUrl } from './target-url.ts'

const forwarded = (destination: string, rest: string, query = '') =>
  targetUrl(destination, { forwardPath: true, rest, query })

test("without path forwarding the URL is the destination's own", () => {
  expect(targetUrl('https://a.test/hook?key=1', { forwardPath: false, rest: '/x', query: 'y=2' })).toEqual({
    kind: 'url',
    url: 'https://a.test/hook?key=1',
  })
})

test.each([
  ['https://a.test/hook', '', '', 'https://a.test/hook'],
  ['https://a.test/hook/', '', '', 'https://a.test/hook/'],
  ['https://a.test', '', '', 'https://a.test/'],
  ['https://a.test', '/orders/1', '', 'https://a.test/orders/1'],
  ['https://a.test/hook', '/orders/1', '', 'https://a.test/hook/orders/1'],
  ['https://a.test/hook/', '/orders/1', '', 'https://a.test/hook/orders/1'],
  ['https://a.test/hook', '/', '', 'https://a.test/hook/'],
  ['https://a.test/hook', '', 'b=2', 'https://a.test/hook?b=2'],
  ['https://a.test/hook?a=1', '/x', 'b=2&a=3', 'https://a.test/hook/x?a=1&b=2&a=3'],
  ['https://a.test/hook', '/a%20b/%2B', 'q=%26+%zz', 'https://a.test/hook/a%20b/%2B?q=%26+%zz'],
  ['https://a.test/hook', '/caf\u00c3\u00a9', 'n=\u00c3\u00a9', 'https://a.test/hook/caf%C3%A9?n=%C3%A9'],
  ['https://a.test/hook', '/a?b#c', 'd#e', 'https://a.test/hook/a%3Fb%23c?d%23e'],
  ['https://a.test/hook', '//evil.test/x', '', 'https://a.test/hook//evil.test/x'],
  ['https://a.test/hook', '/http://evil.test/', '', 'https://a.test/hook/http://evil.test/'],
  ['https://a.test/hook', '/@evil.test/', '', 'https://a.test/hook/@evil.test/'],
])('%s with %j and %j becomes %4$s', (destination, rest, query, url) => {
  expect(forwarded(destination, rest, query)).toEqual({ kind: 'url', url })
})

test.each([
  '/..',
  '/../..',
  '/../admin',
  '/x/../../admin',
  '/%2e%2e/admin',
  '/.%2E/admin',
  '/..\\admin',
  '\\..\\admin',
  '/./../admin',
])("%j climbs to the destination's path at the most", (rest) => {
  const target = forwarded('https://a.test/hook', rest)
  expect(target).toMatchObject({ kind: 'url', url: expect.stringMatching(/^https:\/\/a\.test\/hook\/(admin)?$/) })
})

test.each(['/..%2fadmin', '/..%2Fadmin', '/%2e%2e%2fadmin', '/x%2f..%2f..%2fadmin', '/..%5cadmin', '/x%2f%2e%2e'])(
  '%j is refused: some servers decode the slash first',
  (rest) => {
    expect(forwarded('https://a.test/hook', rest)).toMatchObject({ kind: 'blocked', code: 'path_refused' })
  },
)

test('a destination that is no URL is refused', () => {
  expect(forwarded('nonsense', '/x')).toMatchObject({ kind: 'blocked', code: 'url_invalid' })
})

test('whatever the sender writes, host and base path stay', () => {
  const segment = fc.oneof(
    fc.constantFrom(
      '..',
      '.',
      '%2e%2e',
      '%2E.',
      '..%2f',
      '%5c..',
      '',
      '\\',
      '//',
      '@',
      ':80',
      'x',
      '?',
      '#',
      '%',
      '\u00ff',
      '\t',
      '\n',
    ),
    fc.string({ maxLength: 4 }),
  )
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 8 }), fc.string(), (segments, query) => {
      const target = forwarded('https://a.test/base/hook', `/${segments.join('/')}`, query)
      if (target.kind !== 'url') return
      const url = new URL(target.url)
      expect(url.host).toBe('a.test')
      expect(url.pathname).toMatch(/^\/base\/hook(\/|$)/)
      expect(url.hash).toBe('')
    }),
    { numRuns: 2_000 },
  )
})
