import { createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLogger } from '@tenterhook/telemetry/log'
import type { LogFields } from '@tenterhook/telemetry/log'
import { createMetrics } from '@tenterhook/telemetry/metrics'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { Component } from './component.ts'
import type { ServiceSettings } from './service.ts'
import { startService } from './service.ts'

let lines: LogFields[]
beforeEach(() => {
  lines = []
})

function settings(overrides: Partial<ServiceSettings> = {}): ServiceSettings {
  return {
    name: 'ingest',
    components: [],
    log: createLogger({
      service: 'ingest',
      level: 'info',
      destination: { write: (line) => lines.push(JSON.parse(line)) },
    }),
    ops: { host: '127.0.0.1', port: 0, metrics: createMetrics({ service: 'ingest' }).registry, checks: {} },
    draining: new AbortController(),
    drainDelayMs: 0,
    graceMs: 5000,
    ...overrides,
  }
}

const statusOf = (url: string) =>
  new Promise<number | undefined>((resolve, reject) =>
    get(url, { agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', reject),
  )

/** A port that nobody uses now; the caller is quick. */
async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}

/** A component whose start and stop wait until they are let go. */
function gate(name: string) {
  const startGate = Promise.withResolvers<void>()
  const stopGate = Promise.withResolvers<void>()
  const asked: string[] = []
  const component: Component = {
    name,
    start: () => {
      asked.push('start')
      return startGate.promise
    },
    stop: () => {
      asked.push('stop')
      return stopGate.promise
    },
  }
  return { component, asked, start: startGate.resolve, stop: stopGate.resolve }
}

describe('a service', () => {
  test('is ready once all components have started, and says so', async () => {
    const service = await startService(settings())
    expect(await statusOf(`${service.opsUrl()}/readyz`)).toBe(200)
    expect(lines).toMatchObject([{ event: 'service.ready', ops: service.opsUrl() }])
    await service.stop()
  })

  test('answers /livez and a red /readyz while components start', async () => {
    const port = await freePort()
    const slow = gate('slow')
    const given = settings({ components: [slow.component] })
    const starting = startService({ ...given, ops: { ...given.ops, port } })
    await vi.waitFor(() => expect(slow.asked).toEqual(['start']))
    expect(await statusOf(`http://127.0.0.1:${port}/livez`)).toBe(200)
    expect(await statusOf(`http://127.0.0.1:${port}/readyz`)).toBe(503)
    slow.start()
    const service = await starting
    expect(await statusOf(`http://127.0.0.1:${port}/readyz`)).toBe(200)
    slow.stop()
    await service.stop()
  })

  test('that stops is red and drains for the delay while everything works, and is alive until the last component stopped', async () => {
    const slow = gate('slow')
    slow.start()
    const given = settings({ components: [slow.component], drainDelayMs: 300 })
    const service = await startService(given)
    const url = service.opsUrl()
    const begun = performance.now()
    const stopping = service.stop()
    expect(given.draining.signal.aborted).toBe(true)
    expect(await statusOf(`${url}/readyz`)).toBe(503)
    expect(slow.asked).toEqual(['start'])
    await vi.waitFor(() => expect(slow.asked).toEqual(['start', 'stop']))
    expect(performance.now() - begun).toBeGreaterThan(295)
    expect(await statusOf(`${url}/livez`)).toBe(200)
    slow.stop()
    expect(await stopping).toEqual({ kind: 'clean' })
    await expect(statusOf(`${url}/livez`)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    expect(lines.map(({ event }) => event)).toEqual(['service.ready', 'service.draining', 'service.stopped'])
  })

  test('that is told to stop again does it once', async () => {
    const once = gate('once')
    once.start()
    once.stop()
    const service = await startService(settings({ components: [once.component] }))
    const first = service.stop()
    expect(service.stop()).toBe(first)
    await first
    expect(once.asked).toEqual(['start', 'stop'])
  })

  test('with a component that does not stop in time ends uncleanly, and soon', async () => {
    const stuck = gate('stuck')
    stuck.start()
    const service = await startService(settings({ components: [stuck.component], graceMs: 50 }))
    const begun = performance.now()
    expect(await service.stop()).toEqual({ kind: 'unclean', components: ['stuck'] })
    expect(performance.now() - begun).toBeLessThan(2000)
    expect(lines).toContainEqual(expect.objectContaining({ event: 'service.stop_failed', component: 'stuck' }))
  })

  test('leaves signals, exit and uncaught errors of the process alone', async () => {
    const count = () =>
      ['SIGTERM', 'SIGINT', 'exit', 'uncaughtException', 'unhandledRejection'].map((event) =>
        process.listenerCount(event),
      )
    const before = count()
    const service = await startService(settings())
    expect(count()).toEqual(before)
    await service.stop()
    expect(count()).toEqual(before)
  })
})
