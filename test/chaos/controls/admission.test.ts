import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Store } from '@tenterhook/store/connect'
import { failing } from '../../support/behaviours.ts'
import { loadConfig } from '../../support/load.ts'
import { until } from '../../support/poll.ts'
import type { Receiver } from '../../support/receiver.ts'
import { drained } from '../../support/rows.ts'
import type { ServiceProcess } from '../../support/service-process.ts'
import { provesControls } from './control.ts'
import { gateAt } from './gate.ts'
import { atATime, connected, pause, untilState } from './plain.ts'
import { holdAdvisory, holdAsynchronousCommits, untilLocked } from './postgres.ts'
import { farRetry, farRetryMs, queueWaitMs } from './waits.ts'

const deliver = 'services/dispatcher/deliver.ts'
const feedLock = 'FOR NO KEY UPDATE SKIP LOCKED'
const window = 4
/** Advisory locks: who has the first one waits for the second. */
const firstFeeder = 1
const heldByTest = 2

provesControls({
  services: ['ingest', 'router', 'router', 'dispatcher', 'dispatcher'],
  postgres: 'own',
  controls: [
    {
      name: 'the window counted in the same statement as the lock',
      broken: {
        functions: [
          {
            name: 'feed_v1',
            find: feedLock,
            replace: `AND set_config('control.counted', (SELECT count(*) FROM deliveries d WHERE d.destination_id = wanted AND d.admitted)::text, true) IS NOT NULL
              ${feedLock}`,
          },
          {
            name: 'feed_v1',
            find: 'feed_window(t) - count(*)) INTO free FROM deliveries d WHERE d.destination_id = wanted AND d.admitted;',
            replace: `feed_window(t) - current_setting('control.counted')::int) INTO free;`,
          },
        ],
      },
      // The first feeder of `plain` has its snapshot, and takes the lock a while later.
      weather: {
        functions: [
          {
            name: 'feed_v1',
            find: feedLock,
            replace: `AND (x.name <> 'plain' OR NOT pg_try_advisory_xact_lock(${firstFeeder}) OR pg_advisory_xact_lock_shared(${heldByTest}) IS NOT NULL)
              ${feedLock}`,
          },
        ],
      },
      async scenario({ may, stack, start, sender, receiver }) {
        await stack.apply(atATime(loadConfig(receiver), window / 2))
        const gate = gateAt(receiver, '/plain')
        await pause(stack, 'plain', true)
        await Promise.all([start('ingest'), start('router')])
        await Promise.all(Array.from({ length: 3 * window }, () => sender.send()))
        await until(async () => (await counted(stack.store, 'pending')) === 3 * window, { what: 'all to be routed' })
        // Two feeders are left, the dispatchers'.
        await stack.service('router').kill('SIGKILL')
        await using feeder = await holdAdvisory(stack.databaseUrl, heldByTest)
        await Promise.all([start('dispatcher'), start('dispatcher2')])
        await pause(stack, 'plain', false)
        await untilLocked(stack.store, 'tenterhook-dispatcher')
        await until(async () => (await counted(stack.store, 'queued', 'leased')) === window, { what: 'a full window' })
        await feeder.letGo()
        let most = 0
        await may(async () => {
          most = Math.max(most, await counted(stack.store, 'queued', 'leased'))
          return most > window
        })
        gate.letAllPass()
        if (most > window) throw new Error(`${most} deliveries were admitted at a window of ${window}`)
      },
      caught: /8 deliveries were admitted at a window of 4/,
    },
    {
      name: 'the window as a counter in Redis',
      broken: {
        dispatcher: {
          texts: [
            {
              module: 'packages/queue/producer.ts',
              find: 'const queues = byQueue(',
              replace: 'globalThis.windows = redis.client\n  const queues = byQueue(',
            },
            {
              module: deliver,
              find: 'await deps.leases.take(hint.id, hint.generation)',
              replace: `(await globalThis.windows.incr(hint.destinationId)) <= 1 ? await deps.leases.take(hint.id, hint.generation) : { kind: 'refused', waitMs: 100 }
                if (answer.kind !== 'leased') await globalThis.windows.decr(hint.destinationId)`,
            },
            {
              module: deliver,
              find: 'slot.give()',
              replace: 'slot.give()\n      void globalThis.windows.decr(hint.destinationId)',
            },
          ],
        },
      },
      async scenario({ stack, start, sender }) {
        await Promise.all([start('ingest'), start('router'), start('dispatcher')])
        // A counter does while nobody dies.
        await sender.send()
        await drained(stack.store)
        await stack.service('dispatcher').kill('SIGKILL')
        const dispatcher = await start('dispatcher', { point: 'dispatcher.after_lease', signal: 'SIGKILL' })
        await sender.send()
        await dispatcher.exited()
        await start('dispatcher')
      },
      caught: /I6: dlv_\w+ is (queued|pending)/,
    },
    {
      name: 'strict order by the window alone',
      broken: {
        functions: [
          { name: 'feed_v1', find: 'p.order_key IS NOT NULL AND ((p.', replace: 'false AND ((p.' },
          { name: 'feed_v1', find: 'p.order_key IS NOT NULL AND EXISTS', replace: 'false AND EXISTS' },
        ],
      },
      async scenario({ may, stack, start, sender, receiver }) {
        const config = connected(loadConfig(receiver), { order: 'body.customer', retry: { schedule: [farRetry] } })
        await stack.apply(atATime(config, 1))
        receiver.on('/plain', failing(1))
        await Promise.all([start('ingest'), start('router'), start('dispatcher')])
        await sender.send()
        await untilState(stack, 'plain', 'retrying')
        await sender.send()
        await may(() => receiver.count('/plain') > 1)
        await stack.shiftClock(farRetryMs)
        await drained(stack.store)
        inOrder(receiver, ['first', 'first', 'second'])
        return { mayRepeat: (_id, requests) => requests.length <= 2 }
      },
      caught: /the destination got first, second, first/,
    },
    {
      name: 'strict order without a look at what is not routed yet',
      broken: {
        functions: [{ name: 'feed_v1', find: 'p.order_key IS NOT NULL AND EXISTS', replace: 'false AND EXISTS' }],
      },
      // No sweep routes the first one while its router stands still.
      weather: {
        ingest: {
          texts: [
            { module: 'services/ingest/ingest.ts', find: 'routeWaitMs = 5_000', replace: 'routeWaitMs = 60_000' },
          ],
        },
      },
      async scenario({ may, stack, start, sender, receiver }) {
        await stack.apply(connected(loadConfig(receiver), { order: 'body.customer' }))
        await Promise.all([start('ingest'), start('dispatcher')])
        const slow = await start('router', { point: 'router.after_claim', signal: 'SIGSTOP' })
        const first = sender.newEvent()
        await sender.send(first)
        await untilStopped(slow)
        await start('router2')
        const second = sender.newEvent()
        await sender.send(second)
        await may(() => receiver.count('/plain') > 0)
        slow.signal('SIGCONT')
        await drained(stack.store)
        inOrder(receiver, ['first', 'second'])
      },
      caught: /the destination got second, first/,
    },
    {
      name: 'the ordered lease asynchronous',
      broken: {
        dispatcher: {
          texts: [
            {
              module: 'packages/store/lease.ts',
              find: `set_config('synchronous_commit', 'on', true)`,
              replace: `set_config('synchronous_commit', 'off', true)`,
            },
          ],
        },
      },
      // Time enough for the first dispatcher's lease: it is stopped for long, and must find that it may still send.
      weather: {
        dispatcher: {
          texts: [
            { module: 'packages/store/lease.ts', find: 'leaseMarginMs = 15_000', replace: 'leaseMarginMs = 60_000' },
          ],
        },
      },
      async scenario({ may, stack, start, sender, receiver }) {
        await stack.apply(connected(loadConfig(receiver), { order: 'body.customer' }))
        await pause(stack, 'signed', true)
        await Promise.all([start('ingest'), start('router')])
        // Its second lease; with the first one it reads what else it needs to send.
        const first = await start('dispatcher', { point: 'dispatcher.after_lease', signal: 'SIGSTOP', turn: 2 })
        await sender.send()
        await untilState(stack, 'plain', 'delivered')
        await using commits = await holdAsynchronousCommits(stack.store)
        await sender.send()
        await untilStopped(first)
        await commits.crash()
        // Whoever finds no lease takes it, and lets the next one go: routed and queued anew if need be, and found without
        // the job, whose name the stopped one still holds.
        await stack.shiftClock(queueWaitMs)
        await start('dispatcher2')
        await until(async () => (await counted(stack.store, 'queued', 'leased')) > 0, { what: 'it to be on its way' })
        await stack.shiftClock(queueWaitMs)
        await sender.send()
        await may(() => receiver.count('/plain') > 2)
        first.signal('SIGCONT')
        await may(() => receiver.count('/plain') > 3)
        await pause(stack, 'signed', false)
        await drained(stack.store)
        inOrder(receiver, ['first', 'second', 'third'])
      },
      caught: /the destination got first, second, third, second/,
    },
  ],
})

async function counted({ durable }: Store, ...states: string[]): Promise<number> {
  const { rows } = await durable.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM deliveries d JOIN destinations t ON t.id = d.destination_id WHERE t.name = 'plain' AND d.state = ANY($1)`,
    [states],
  )
  return rows[0]?.n ?? 0
}

/** What `plain` got, as the bodies number it. */
function inOrder(receiver: Receiver, expected: readonly string[]): void {
  const names = ['first', 'second', 'third']
  const got = receiver.received('/plain').map(({ body }) => names[(JSON.parse(body.toString()) as { n: number }).n])
  if (got.join() !== expected.join()) throw new Error(`the destination got ${got.join(', ')}`)
}

/** Until a process has stopped itself. */
async function untilStopped({ pid }: ServiceProcess): Promise<void> {
  await until(
    async () => (await promisify(execFile)('ps', ['-o', 'state=', '-p', String(pid)])).stdout.trim().startsWith('T'),
    { what: 'the process to stop' },
  )
}
