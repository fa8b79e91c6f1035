import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createHosts } from './hosts.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hosts-'))
})
afterAll(() => rm(folder, { recursive: true }))

let files = 0
async function hostsOf(text: string) {
  const path = join(folder, `${files++}`)
  await writeFile(path, text)
  let nowMs = 0
  return { path, hosts: createHosts({ path, monotonicMs: () => nowMs }), passMs: (ms: number) => (nowMs += ms) }
}

test('reads names, aliases and comments, whatever their case and spacing', async () => {
  const { hosts } = await hostsOf(
    '# comment\n10.0.0.1\tDb.Internal db # the database\n  10.0.0.2   web\nnonsense web2\n\n::1 six',
  )
  expect(await hosts.addressesOf('db.internal')).toEqual(['10.0.0.1'])
  expect(await hosts.addressesOf('db')).toEqual(['10.0.0.1'])
  expect(await hosts.addressesOf('web')).toEqual(['10.0.0.2'])
  expect(await hosts.addressesOf('six')).toEqual(['::1'])
  for (const name of ['web2', 'the', '#', 'elsewhere']) expect(await hosts.addressesOf(name)).toEqual([])
})

test('a name on several lines has the addresses of all, once each', async () => {
  const { hosts } = await hostsOf('10.0.0.1 a\n::1 a\n10.0.0.1 a b\n')
  expect(await hosts.addressesOf('a')).toEqual(['10.0.0.1', '::1'])
})

test('localhost is what the file says, and loopback when it says nothing', async () => {
  const { hosts } = await hostsOf('127.0.0.1 localhost\n')
  expect(await hosts.addressesOf('localhost')).toEqual(['127.0.0.1'])
  expect(await hosts.addressesOf('app.localhost')).toEqual(['127.0.0.1', '::1'])
  const { hosts: bare } = await hostsOf('')
  expect(await bare.addressesOf('localhost')).toEqual(['127.0.0.1', '::1'])
  expect(await bare.addressesOf('notlocalhost')).toEqual([])
})

test('a changed file counts after the interval, and a removed one has no names', async () => {
  const { path, hosts, passMs } = await hostsOf('10.0.0.1 a\n')
  expect(await hosts.addressesOf('a')).toEqual(['10.0.0.1'])
  await writeFile(path, '10.0.0.22 a\n')
  expect(await hosts.addressesOf('a')).toEqual(['10.0.0.1'])
  passMs(5_000)
  expect(await hosts.addressesOf('a')).toEqual(['10.0.0.22'])
  await rm(path)
  passMs(5_000)
  expect(await hosts.addressesOf('a')).toEqual([])
})

test('a file longer than its bound is read up to there', async () => {
  const { hosts } = await hostsOf(`10.0.0.1 first\n${'# filler\n'.repeat(130_000)}10.0.0.2 last\n`)
  expect(await hosts.addressesOf('first')).toEqual(['10.0.0.1'])
  expect(await hosts.addressesOf('last')).toEqual([])
})
