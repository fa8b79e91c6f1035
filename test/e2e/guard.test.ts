import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../support/poll.ts'
import { attemptsOf, deliveriesOf } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { sharedStack } from '../support/stack.ts'

/** Counts who comes, on every loopback address, and on those of IPv6 where the machine has it. */
let connections = 0
let listener: Server
let port: number
beforeAll(async () => {
  listener = createServer((socket) => {
    connections += 1
    socket.on('error', () => {}).resume()
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
  })
  const listen = (host: string) =>
    new Promise<void>((resolve, reject) => listener.once('error', reject).listen(0, host, resolve))
  await listen('::').catch(() => listen('0.0.0.0'))
  const address = listener.address()
  port = typeof address === 'object' && address !== null ? address.port : 0
})
afterAll(() => new Promise((resolve) => listener.close(resolve)))

const urls = (): Record<string, [url: string, code: string]> => ({
  literal: [`http://127.0.0.1:${port}/`, 'address_loopback'],
  other: [`http://127.8.8.8:${port}/`, 'address_loopback'],
  decimal: [`http://2130706433:${port}/`, 'address_loopback'],
  hex: [`http://0x7f.1:${port}/`, 'address_loopback'],
  name: [`http://localhost:${port}/`, 'address_loopback'],
  six: [`http://[::1]:${port}/`, 'address_loopback'],
  mapped: [`http://[::ffff:127.0.0.1]:${port}/`, 'address_ipv4_mapped'],
  nothing: [`http://0.0.0.0:${port}/`, 'address_unspecified'],
  private: ['http://10.0.0.1/', 'address_private'],
  metadata: ['http://169.254.169.254/latest/meta-data/', 'address_link_local'],
})

describe('an address that the operator did not open', () => {
  const stack = sharedStack(() => {
    const entries = Object.entries(urls())
    return {
      env: { TENTERHOOK_ALLOW_CIDRS: '' },
      config: {
        sources: { hub: { verification: { scheme: 'none' } } },
        destinations: Object.fromEntries(entries.map(([name, [url]]) => [name, { url }])),
        connections: Object.fromEntries(
          entries.map(([name]) => [
            name,
            { source: 'hub', destination: name, retry: { schedule: ['30s'], jitter: 0 } },
          ]),
        ),
      },
    }
  })

  it(
    'gets no connection at all, however it is written; the attempt says why, and waits for a change of mind',
    { timeout: 30_000 },
    async () => {
      const accepted = await send(stack(), 'hub', { body: '{}' })
      const eventId = String(accepted.json['id'])
      const deliveries = await until(
        async () => {
          const rows = await deliveriesOf(stack().store, eventId)
          return rows.length > 0 && rows.every(({ failures }) => failures === 1) && rows
        },
        { what: 'every attempt to be blocked' },
      )
      const seen = await Promise.all(
        deliveries.map(
          async ({ id, destination, state }) => [destination, state, await attemptsOf(stack().store, id)] as const,
        ),
      )
      for (const [destination, state, attempts] of seen) {
        expect(state, destination).toBe('retrying')
        expect(attempts, destination).toEqual([
          expect.objectContaining({
            number: 1,
            outcome: 'blocked',
            status: null,
            code: urls()[destination]?.[1],
            detail: expect.any(String),
          }),
        ])
      }
      expect(seen).toHaveLength(Object.keys(urls()).length)
      expect(connections).toBe(0)

      const dispatcher = stack().service('dispatcher')
      await dispatcher.kill('SIGTERM')
      await dispatcher.start({ env: { TENTERHOOK_ALLOW_CIDRS: '127.0.0.0/8' } })
      await stack().shiftClock(31_000)
      const now = await until(
        async () => {
          const rows = await deliveriesOf(stack().store, eventId)
          return rows.every(({ dueInMs }) => dueInMs === null) && rows
        },
        { what: 'everything to end' },
      )
      const delivered = now.filter(({ state }) => state === 'delivered').map(({ destination }) => destination)
      // A name may have other addresses that stay closed; those that are closed by themselves are dead letters.
      expect(delivered).toEqual(expect.arrayContaining(['decimal', 'hex', 'literal', 'name']))
      // Linux alone answers on all of 127.0.0.0/8.
      expect(delivered.filter((name) => !['decimal', 'hex', 'literal', 'name', 'other'].includes(name))).toEqual([])
      expect(
        now.filter(({ state }) => state === 'dead').every(({ deadReason }) => deadReason === 'retries_used_up'),
      ).toBe(true)
      expect(connections).toBe(delivered.length)
    },
  )
})
