import { afterEach, expect, test } from 'vitest'
import { startDnsServer } from '../../test/support/dns.ts'
import type { DnsAnswer, DnsQuestion, DnsServer } from '../../test/support/dns.ts'
import { createResolver } from './resolve.ts'

const servers: DnsServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop()
})

async function resolverWith(answerFor: (question: DnsQuestion) => DnsAnswer, timeoutMs = 2_000) {
  const dns = await startDnsServer(answerFor)
  servers.push(dns)
  let passedMs = 0
  const resolver = createResolver({
    monotonicMs: () => performance.now() + passedMs,
    servers: [dns.address],
    hostsPath: '/nowhere',
    timeoutMs,
  })
  return { dns, resolver, passMs: (ms: number) => (passedMs += ms) }
}

test('asks for both families at once and takes them in turn, IPv4 first', async () => {
  const { resolver } = await resolverWith(() => ({ addresses: ['192.0.2.1', '192.0.2.2', '192.0.2.3', '2001:db8::1'] }))
  expect(await resolver.resolve('a.test')).toEqual({
    kind: 'resolved',
    addresses: ['192.0.2.1', '2001:db8::1', '192.0.2.2', '192.0.2.3'],
  })
})

test('takes the first eight of many addresses', async () => {
  const { resolver } = await resolverWith(() => ({ addresses: Array.from({ length: 20 }, (_, i) => `192.0.2.${i}`) }))
  expect(await resolver.resolve('many.test')).toMatchObject({ addresses: { length: 8 } })
})

test('a name with one family only needs no other', async () => {
  const { resolver } = await resolverWith(() => ({ addresses: ['2001:db8::1'] }))
  expect(await resolver.resolve('six.test')).toEqual({ kind: 'resolved', addresses: ['2001:db8::1'] })
})

test('one silent family does not hold up the other', async () => {
  const { resolver } = await resolverWith(({ type }) => (type === 'AAAA' ? 'silence' : { addresses: ['192.0.2.1'] }))
  const startMs = performance.now()
  expect(await resolver.resolve('half.test')).toEqual({ kind: 'resolved', addresses: ['192.0.2.1'] })
  expect(performance.now() - startMs).toBeLessThan(1_500)
})

test('many lookups of one name ask once', async () => {
  const { dns, resolver } = await resolverWith(() => ({ addresses: ['192.0.2.1'] }))
  await Promise.all(Array.from({ length: 100 }, () => resolver.resolve('a.test')))
  expect(dns.questions('a.test')).toHaveLength(2) // A and AAAA
})

test('an answer is kept for its time to live, between one second and sixty', async () => {
  const { dns, resolver, passMs } = await resolverWith(({ name }) => ({
    addresses: ['192.0.2.1'],
    ttlSeconds: name === 'zero.test' ? 0 : name === 'day.test' ? 86_400 : 10,
  }))
  for (const [name, keptMs] of [
    ['ten.test', 10_000],
    ['zero.test', 1_000],
    ['day.test', 60_000],
  ] as const) {
    await resolver.resolve(name)
    passMs(keptMs - 500)
    await resolver.resolve(name)
    expect(dns.questions(name), `${name} kept`).toHaveLength(2)
    passMs(600)
    await resolver.resolve(name)
    expect(dns.questions(name), `${name} asked again`).toHaveLength(4)
  }
})

test('a name that moves is found at its new address once the old answer has run out', async () => {
  const { resolver, passMs } = await resolverWith(({ nth }) => ({
    addresses: [nth === 1 ? '192.0.2.1' : '192.0.2.2'],
    ttlSeconds: 5,
  }))
  expect(await resolver.resolve('moves.test')).toMatchObject({ addresses: ['192.0.2.1'] })
  passMs(5_001)
  expect(await resolver.resolve('moves.test')).toMatchObject({ addresses: ['192.0.2.2'] })
})

test.each([
  ['nxdomain', 'ENOTFOUND'],
  ['servfail', 'ESERVFAIL'],
  ['refused', 'EREFUSED'],
] as const)('%s fails with the reason, and is asked again after a while', async (failure, code) => {
  let healed = false
  const { resolver, passMs } = await resolverWith(() => (healed ? { addresses: ['192.0.2.1'] } : { failure }))
  expect(await resolver.resolve('gone.test')).toEqual({
    kind: 'failed',
    code: 'dns_failed',
    detail: `gone.test: ${code}`,
  })
  healed = true
  passMs(5_001)
  expect(await resolver.resolve('gone.test')).toEqual({ kind: 'resolved', addresses: ['192.0.2.1'] })
})

test('a name without addresses fails, and that is remembered for a while', async () => {
  const { dns, resolver } = await resolverWith(() => ({ addresses: [] }))
  expect(await resolver.resolve('empty.test')).toEqual({
    kind: 'failed',
    code: 'dns_failed',
    detail: 'empty.test: ENODATA',
  })
  await resolver.resolve('empty.test')
  expect(dns.questions('empty.test')).toHaveLength(2)
})

test('silence ends at the deadline, for every lookup of the name, and holds up no other name', async () => {
  const { resolver } = await resolverWith(
    ({ name }) => (name === 'dead.test' ? 'silence' : { addresses: ['192.0.2.1'] }),
    300,
  )
  const startMs = performance.now()
  const dead = Array.from({ length: 50 }, () => resolver.resolve('dead.test'))
  expect(await Promise.race([...dead, resolver.resolve('alive.test')])).toMatchObject({ kind: 'resolved' })
  for (const resolution of await Promise.all(dead))
    expect(resolution).toEqual({ kind: 'failed', code: 'dns_timeout', detail: 'dead.test: no answer from DNS' })
  const tookMs = performance.now() - startMs
  expect(tookMs).toBeGreaterThan(290)
  expect(tookMs).toBeLessThan(1_000)
})

test('a lost answer is asked for again within the deadline', async () => {
  const { resolver } = await resolverWith(({ nth }) => (nth === 1 ? 'silence' : { addresses: ['192.0.2.1'] }))
  expect(await resolver.resolve('lossy.test')).toMatchObject({ kind: 'resolved' })
})

test.each(['a..test', `${'a'.repeat(64)}.test`, `${'a.'.repeat(130)}test`, ' '])(
  'the impossible name %j fails and never throws',
  async (name) => {
    const { resolver } = await resolverWith(() => ({ failure: 'nxdomain' }), 300)
    expect(await resolver.resolve(name)).toMatchObject({ kind: 'failed' })
  },
)

test('localhost is never asked of a server', async () => {
  const { dns, resolver } = await resolverWith(() => ({ addresses: ['192.0.2.1'] }))
  expect(await resolver.resolve('localhost')).toEqual({ kind: 'resolved', addresses: ['127.0.0.1', '::1'] })
  expect(dns.questions()).toEqual([])
})
