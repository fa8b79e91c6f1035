import { readFile } from 'node:fs/promises'
import { soleHeader } from '@tenterhook/schemas/headers'
import { takesWrites } from '@tenterhook/store/overdue'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest'
import { checkInvariants, lastSeq } from '../chaos/invariants.ts'
import { startProvePostgres } from '../chaos/prove/postgres.ts'
import type { ProvePostgres } from '../chaos/prove/postgres.ts'
import { loadConfig, loadSource, startLoad } from '../support/load.ts'
import type { Load } from '../support/load.ts'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import type { ServiceProcess } from '../support/service-process.ts'
import { sharedStack } from '../support/stack.ts'

const perSecond = 60
/** Of the watchdogs, shorter than the disk is full: a full disk is no reason to exit. */
const stalledMax = '3s'
const fullMs = 8_000
/** What asynchronous commits may lose when Postgres falls, and a slow disk. */
const lostTailMs = 2_000

let receiver: Receiver
let postgres: ProvePostgres
let afterSeq = 0
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  config: loadConfig(receiver),
  postgres: async (home, resources) => {
    postgres = await startProvePostgres(home, resources)
    const refuse = () => Promise.reject(new Error('this Postgres starts itself again'))
    return { url: postgres.url, stopAtOnce: refuse, start: refuse }
  },
}))
let services: ServiceProcess[]
beforeAll(async () => {
  services = [stack().service('ingest'), stack().service('router'), stack().service('dispatcher')]
  for (const service of services.slice(1)) {
    await service.kill('SIGTERM')
    await service.start({
      entry: `test/chaos/entry-watchdog-${service.name}.ts`,
      env: { TENTERHOOK_TEST_STALLED_MAX: stalledMax, TENTERHOOK_TEST_HANGS: 'false' },
    })
  }
}, 60_000)
beforeEach(async () => {
  await drained(stack().store)
  receiver.clear()
  afterSeq = await lastSeq(stack().store)
})

function smallDisk(skip: (note: string) => never): { fill(): Promise<void>; free(): Promise<void> } {
  if (postgres.disk === undefined)
    return skip(`this test fills a disk of its own, which needs root (run it with sudo): ${postgres.diskNote}`)
  const { disk } = postgres
  onTestFinished(() => disk.free())
  return disk
}

/** Until a second passes in which every answer is this one, and at least so long. */
async function allAnswered(load: Load, status: number, { leastMs }: { leastMs: number }): Promise<void> {
  await load.pass(leastMs)
  await until(
    async () => {
      const from = load.sent.length
      await load.pass(1_000)
      const answers = load.sent.slice(from, from + perSecond / 2).flatMap((one) => one.answers)
      return answers.length > 0 && answers.every((answer) => answer !== 'broken' && answer.status === status)
    },
    { what: `a second of ${status} alone`, timeoutMs: 45_000 },
  )
}

/** 2xx and 503 alone; of what was accepted everything is delivered, by nobody's hand. */
async function provesNothingIsLost(load: Load, { crashedAtMs }: { crashedAtMs?: number } = {}): Promise<void> {
  const sent = await load.stop()
  expect(
    sent
      .flatMap(({ answers }) => answers)
      .filter((answer) => answer === 'broken' || (answer.status !== 200 && answer.status !== 503)),
  ).toEqual([])
  await load.resend()
  // Leases that were under way when Postgres fell run out after half a minute.
  await drained(stack().store, 60_000)
  const tally = await checkInvariants(stack().store, {
    sent,
    received: receiver.received(),
    afterSeq,
    mayRepeat: (_id, requests) =>
      crashedAtMs !== undefined && Math.abs(crashedAtMs - (requests[0]?.at ?? 0)) < lostTailMs,
  })
  expect(tally.events).toBe(sent.length)
}

async function stayAlive(): Promise<void> {
  for (const service of services) expect((await service.ops('/livez')).status, service.name).toBe(200)
}

it(
  'a full disk is answered for by 503s, fills no log and ends no service; when there is space everything goes on by itself',
  { timeout: 120_000 },
  async ({ skip }) => {
    const disk = smallDisk(skip)
    const pids = services.map(({ pid }) => pid)
    const load = startLoad(stack(), { perSecond, bytes: 3_000 })
    await load.pass(1_500)
    await disk.fill()
    const logged = await logBytes()
    await allAnswered(load, 503, { leastMs: fullMs })
    const refused = await send(stack(), loadSource, { headers: [['X-GitHub-Event', 'push']], body: '{}' })
    expect(refused.status).toBe(503)
    expect(soleHeader(refused.headers, 'retry-after')).toMatch(/^[1-5]$/)
    // What keeps a watchdog from restarting services for as long as the disk is full.
    expect(await takesWrites(stack().store)).toBe(false)
    await stayAlive()
    // Not a line for each of the batches, leases and results that failed.
    expect((await logBytes()) - logged).toBeLessThan(500_000)

    await disk.free()
    await allAnswered(load, 200, { leastMs: 1_000 })
    expect(await takesWrites(stack().store)).toBe(true)
    await provesNothingIsLost(load)
    expect(services.map(({ pid }) => pid)).toEqual(pids)
  },
)

it(
  'a Postgres that falls because its log has no room, and can not start, is answered for by 503s; when there is space nothing is lost',
  { timeout: 150_000 },
  async ({ skip }) => {
    const disk = smallDisk(skip)
    const load = startLoad(stack(), { perSecond })
    await load.pass(1_500)
    await disk.fill()
    const crashedAtMs = Date.now()
    const before = postgres.restarts()
    await until(
      async () => {
        // The next segment of the log has no room.
        await switchLog()
        return postgres.restarts() > before
      },
      { what: 'Postgres to fall', timeoutMs: 45_000, everyMs: 250 },
    )
    await allAnswered(load, 503, { leastMs: 3_000 })
    await stayAlive()
    await disk.free()
    await postgres.ready()
    await allAnswered(load, 200, { leastMs: 1_000 })
    await provesNothingIsLost(load, { crashedAtMs })
  },
)

async function switchLog(): Promise<void> {
  const client = new pg.Client({ connectionString: postgres.url, connectionTimeoutMillis: 2_000, query_timeout: 2_000 })
  client.on('error', () => {}) // it may end this very connection
  try {
    await client.connect()
    await client.query('SELECT pg_switch_wal()')
    await client.query('CREATE TABLE IF NOT EXISTS trial (); DROP TABLE trial')
  } catch {
    // which is what it is for
  } finally {
    await client.end().catch(() => {})
  }
}

async function logBytes(): Promise<number> {
  const sizes = await Promise.all(services.map(async (service) => (await readFile(service.logPath)).length))
  return sizes.reduce((sum, size) => sum + size, 0)
}
