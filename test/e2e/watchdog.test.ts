import { readFile } from 'node:fs/promises'
import { stalledExitCode } from '@tenterhook/lifecycle/watchdog'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { answer } from '../support/behaviours.ts'
import { until } from '../support/poll.ts'
import { startFaultProxy } from '../support/proxy.ts'
import type { FaultProxy } from '../support/proxy.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { deliveriesOf, drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import type { ServiceProcess } from '../support/service-process.ts'
import { sharedStack } from '../support/stack.ts'
import type { Stack } from '../support/stack.ts'

const stalledMaxMs = 3_000
/** Twice the limit. */
const longMs = 6_000

let receiver: Receiver
let proxy: FaultProxy
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())
const stack = sharedStack(() => ({
  config: {
    sources: { hub: { verification: { scheme: 'none' } } },
    destinations: { plain: { url: `${receiver.url}/plain` } },
    connections: { 'to-plain': { source: 'hub', destination: 'plain' } },
  },
  services: ['ingest', 'router', 'router', 'dispatcher', 'dispatcher'],
  databaseUrl: async (url) => {
    const target = new URL(url)
    proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) })
    target.port = String(proxy.port)
    return target.href
  },
}))
afterAll(() => proxy.stop())

/** Starts a service anew under short limits. */
async function restart(name: string, { hangs }: { hangs: boolean }): Promise<ServiceProcess> {
  const service = stack().service(name)
  await service.kill('SIGKILL').catch(() => {})
  await service.start({
    entry: `test/chaos/entry-watchdog-${name.replace(/\d/, '')}.ts`,
    env: { TENTERHOOK_TEST_STALLED_MAX: `${stalledMaxMs}ms`, TENTERHOOK_TEST_HANGS: String(hangs) },
  })
  return service
}

async function accept(): Promise<string> {
  const { status, json } = await send(stack(), 'hub', { body: '{}', sign: false })
  expect(status).toBe(200)
  return String(json['id'])
}

/** The line it left, of those since it last started. */
async function lastWords(service: ServiceProcess): Promise<Record<string, unknown> | undefined> {
  const lines = (await readFile(service.logPath, 'utf8')).trimEnd().split('\n')
  const started = lines.findLastIndex((line) => line.includes('"service.starting"'))
  const fatal = lines.slice(started).filter((line) => line.includes('"level":"fatal"'))
  expect(fatal.length).toBeLessThan(2)
  return fatal[0] === undefined ? undefined : (JSON.parse(fatal[0]) as Record<string, unknown>)
}

/** Lives through this time, `/livez` green. */
async function livesFor(ms: number, ...services: ServiceProcess[]): Promise<void> {
  const ended: string[] = []
  for (const service of services) void service.exited().then(() => ended.push(service.name))
  const untilMs = performance.now() + ms
  await until(
    async () => {
      for (const service of services) expect((await service.ops('/livez')).status).toBe(200)
      return ended.length > 0 || performance.now() >= untilMs
    },
    { what: 'the time to pass', timeoutMs: ms + 10_000, everyMs: 100 },
  )
  expect(ended).toEqual([])
}

describe('a router whose consumer and sweeps hang', { timeout: 60_000 }, () => {
  beforeEach(() => drained(stack().store))

  it('exits when nobody routes what is due, says what was due, and is alive until then; started anew, it is routed', async () => {
    await stack().service('router2').kill('SIGTERM')
    const router = await restart('router', { hangs: true })
    const event = await accept()
    // No route job brings it: it is the sweep's from now on.
    await stack().shiftClock(10_000)
    const exited = router.exited()
    expect((await router.ops('/livez')).status).toBe(200)
    expect((await router.ops('/readyz')).status).toBe(200)
    expect(await exited).toEqual({ code: stalledExitCode, signal: null })
    expect(await lastWords(router)).toMatchObject({
      event: 'service.stalled',
      due: `event ${event}`,
      lastProgress: 'none',
    })
    await router.start()
    await drained(stack().store)
    await stack().service('router2').start()
  })

  it('stays while another copy does the work, and exits when that one is gone', async () => {
    const router2 = await restart('router2', { hangs: true })
    const sending = setInterval(() => void accept(), 100)
    try {
      await livesFor(longMs, router2)
    } finally {
      clearInterval(sending)
    }
    expect(await lastWords(router2)).toBeUndefined()
    await stack().service('router').kill('SIGTERM')
    await accept()
    await stack().shiftClock(10_000)
    expect(await router2.exited()).toEqual({ code: stalledExitCode, signal: null })
    await router2.start()
    await stack().service('router').start()
  })
})

describe('a dispatcher whose consumer and sweeps hang', { timeout: 60_000 }, () => {
  beforeEach(() => drained(stack().store))

  it('exits when nobody sends what is due, says what was due, and is alive until then; started anew, it is delivered', async () => {
    await stack().service('dispatcher2').kill('SIGTERM')
    const dispatcher = await restart('dispatcher', { hangs: true })
    const event = await accept()
    const delivery = await until(async () => (await deliveriesOf(stack().store, event))[0], { what: 'its delivery' })
    await stack().shiftClock(15_000)
    const exited = dispatcher.exited()
    expect((await dispatcher.ops('/livez')).status).toBe(200)
    expect(await exited).toEqual({ code: stalledExitCode, signal: null })
    expect(await lastWords(dispatcher)).toMatchObject({
      event: 'service.stalled',
      due: `delivery ${delivery.id}`,
      lastProgress: 'none',
    })
    await dispatcher.start()
    await drained(stack().store)
    await stack().service('dispatcher2').start()
  })
})

describe('services that work, under the same limits, stay', { timeout: 90_000 }, () => {
  let services: ServiceProcess[]
  beforeAll(async () => {
    await drained(stack().store)
    for (const name of ['router2', 'dispatcher2']) await stack().service(name).kill('SIGTERM')
    services = [await restart('router', { hangs: false }), await restart('dispatcher', { hangs: false })]
  })

  it('with nothing to do but a backlog behind a pause, and with one that is refused and waits', async () => {
    await setPaused(stack(), true)
    for (let n = 0; n < 5; n++) await accept()
    await livesFor(longMs, ...services)
    receiver.on('/plain', answer({ status: 500 }))
    await setPaused(stack(), false)
    await livesFor(longMs, ...services)
    receiver.on('/plain', answer())
    await stack().shiftClock(60_000)
    await drained(stack().store)
  })

  it('with due work and no Postgres, alive all the time, and take the work up when it is back', async () => {
    const router = stack().service('router')
    // Due when Postgres goes, and overdue by far when it is back.
    router.signal('SIGSTOP')
    await accept()
    proxy.stopAccepting()
    proxy.reset()
    router.signal('SIGCONT')
    await livesFor(longMs, ...services)
    await stack().shiftClock(60_000)
    await proxy.heal()
    await drained(stack().store)
    await livesFor(longMs / 2, ...services)
  })

  it('when they were stopped for longer than the limit with work to do', async () => {
    for (const service of services) service.signal('SIGSTOP')
    await accept()
    await stack().shiftClock(60_000)
    await new Promise((resolve) => setTimeout(resolve, 2 * stalledMaxMs))
    for (const service of services) service.signal('SIGCONT')
    await drained(stack().store)
    await livesFor(longMs / 2, ...services)
  })
})

async function setPaused({ store }: Stack, paused: boolean): Promise<void> {
  await store.durable.query({ text: 'UPDATE destinations SET paused = $1', values: [paused] })
}
