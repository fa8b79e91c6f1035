import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { answer } from '../../test/support/behaviours.ts'
import { startReceiver } from '../../test/support/receiver.ts'
import type { Receiver } from '../../test/support/receiver.ts'
import { senderForTest } from './test-sender.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
beforeEach(() => receiver.clear())
afterAll(() => receiver.stop())

/** The proof that nothing was opened is the listener's own count. */
function expectUntouched() {
  expect(receiver.connections().total).toBe(0)
}

test.each([
  ['127.0.0.1', 'address_loopback'],
  ['2130706433', 'address_loopback'],
  ['0x7f000001', 'address_loopback'],
  ['0177.0.0.1', 'address_loopback'],
  ['127.1', 'address_loopback'],
  ['127.0.0.1.', 'address_loopback'],
  ['0', 'address_unspecified'],
  ['[::1]', 'address_loopback'],
  ['[::ffff:127.0.0.1]', 'address_ipv4_mapped'],
  ['[::127.0.0.1]', 'address_ipv4_compatible'],
  ['[::ffff:0:127.0.0.1]', 'address_ipv4_translated'],
  ['[64:ff9b::127.0.0.1]', 'address_nat64'],
  ['[2002:7f00:1::]', 'address_6to4'],
  ['[fe80::1%25lo]', 'zone_id_refused'],
  ['me:secret@127.0.0.1', 'userinfo_refused'],
  ['localhost.', 'trailing_dot_refused'],
  ['localhost', 'address_loopback'],
  ['app.localhost', 'address_loopback'],
  ['private.test', 'address_loopback'],
])('http://%s is refused as %s, and no connection is opened', async (host, code) => {
  const { send } = await senderForTest({ allowCidrs: [] })
  expect(await send(`http://${host}:${receiver.port}/`)).toMatchObject({
    kind: 'blocked',
    code,
    timings: { totalMs: expect.any(Number) },
  })
  expectUntouched()
})

test('a refused name says the name and the address', async () => {
  const { send } = await senderForTest({ allowCidrs: [] })
  expect(await send(`http://private.test:${receiver.port}/`)).toMatchObject({
    detail: 'private.test: 127.0.0.1 is in 127.0.0.0/8',
  })
})

test('a name with allowed and refused addresses is reached at an allowed one only', async () => {
  const { send } = await senderForTest({
    answerFor: () => ({ addresses: ['10.0.0.1', '169.254.169.254', '127.0.0.1', '::1'] }),
  })
  expect(await send(`http://mixed.test:${receiver.port}/`)).toMatchObject({ kind: 'delivered', address: '127.0.0.1' })
})

test('a name that rebinds is judged again at every connection, by the answer that is connected to', async () => {
  const { send, dns, passMs } = await senderForTest({
    answerFor: ({ nth }) => ({ addresses: [nth === 1 ? '127.0.0.1' : '10.0.0.1'], ttlSeconds: 0 }),
  })
  const url = `http://rebinds.test:${receiver.port}/`
  expect(await send(url, { destinationId: 'dst_1' })).toMatchObject({ kind: 'delivered', address: '127.0.0.1' })
  expect(dns.questions()).toHaveLength(2) // A and AAAA, once: nothing was asked between judging and connecting
  passMs(1_001)
  expect(await send(url, { destinationId: 'dst_2' })).toMatchObject({ kind: 'blocked', code: 'address_private' })
  expect(receiver.connections().total).toBe(1)
})

test('a name that rebinds to a private address before the first connection opens none', async () => {
  const { send } = await senderForTest({
    allowCidrs: [],
    answerFor: ({ nth }) => ({ addresses: [nth % 2 === 1 ? '127.0.0.1' : '8.8.8.8'], ttlSeconds: 0 }),
  })
  expect(await send(`http://rebinds.test:${receiver.port}/`)).toMatchObject({
    kind: 'blocked',
    code: 'address_loopback',
  })
  expectUntouched()
})

test('a redirect to a private address is a rejection, and nothing is opened there', async () => {
  const inner = await startReceiver()
  const { send } = await senderForTest()
  receiver.on(
    '/hook',
    answer({ status: 307, headers: [['Location', `http://localhost:${inner.port}/latest/meta-data`]] }),
  )
  expect(await send(`${receiver.url}/hook`)).toMatchObject({ kind: 'rejected', status: 307 })
  expect(inner.connections().total).toBe(0)
  await inner.stop()
})

test('a name that does not resolve, or not in time, is unreachable with the reason', async () => {
  const { send } = await senderForTest({
    answerFor: ({ name }) => (name === 'silent.test' ? 'silence' : { failure: 'nxdomain' }),
  })
  expect(await send('http://absent.test/')).toMatchObject({
    kind: 'unreachable',
    code: 'dns_failed',
    detail: 'absent.test: ENOTFOUND',
    timings: { dnsMs: expect.any(Number) },
  })
  expect(await send('http://silent.test/')).toMatchObject({ kind: 'unreachable', code: 'dns_timeout' })
})

test.each([
  ['ftp://127.0.0.1/', 'scheme_refused'],
  ['nonsense', 'url_invalid'],
])('%s is refused as %s', async (url, code) => {
  const { send } = await senderForTest()
  expect(await send(url)).toMatchObject({ kind: 'blocked', code })
})
