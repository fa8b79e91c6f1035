import { failing } from '../../support/behaviours.ts'
import { loadConfig } from '../../support/load.ts'
import { until } from '../../support/poll.ts'
import { deliveriesOf } from '../../support/rows.ts'
import type { Stack } from '../../support/stack.ts'
import { provesControls } from './control.ts'
import { untilJobsTaken } from './jobs.ts'
import { connected, deliveryTo, pause, untilState } from './plain.ts'
import { farRetry, farRetryMs, queueWaitMs } from './waits.ts'

const storeSweep = 'packages/store/sweep.ts'
const hintWorker = 'packages/queue/hint-worker.ts'
const consumer = 'packages/queue/consumer.ts'
const wiring = 'services/dispatcher/dispatcher.ts'

provesControls({
  services: ['ingest', 'router', 'dispatcher'],
  postgres: 'shared',
  controls: [
    {
      name: 'the sweeper bumps the generation and adds a new job',
      broken: {
        dispatcher: {
          texts: [
            { module: storeSweep, find: 'SELECT id, generation', replace: 'WITH due AS (SELECT id, generation' },
            {
              module: storeSweep,
              find: 'LIMIT $1`',
              replace: `LIMIT $1)
                UPDATE deliveries d SET generation = d.generation + 1, wake_at = clock() + interval '10 seconds', due_at = clock() + interval '10 seconds'
                FROM due WHERE d.id = due.id
                RETURNING d.id, d.generation, d.destination_id\``,
            },
            {
              module: wiring,
              find: 'const epoch = openEpoch(',
              replace: 'globalThis.addAgain = producer.addDeliveries\n  const epoch = openEpoch(',
            },
            {
              module: 'services/dispatcher/sweep.ts',
              find: 'Promise.all(due.map(slots.offer))',
              replace: 'globalThis.addAgain(due)',
            },
          ],
        },
      },
      // A queue that is slower than the queue wait.
      weather: {
        dispatcher: {
          texts: [
            {
              module: consumer,
              find: 'await params.handle(',
              replace: 'await new Promise((resolve) => setTimeout(resolve, 15_000))\n      await params.handle(',
            },
          ],
        },
      },
      async scenario({ stack, sender, start }) {
        await Promise.all([start('ingest'), start('router'), start('dispatcher')])
        await sender.send()
        await until(async () => (await deliveriesOf(stack.store)).length > 0, { what: 'it to be routed' })
        for (let round = 1; round <= 3; round++) {
          await stack.shiftClock(queueWaitMs)
          // Sent already, or admitted once more.
          await until(async () => (await admissions(stack)).every((row) => row.attempt > 0 || row.generation > round), {
            what: 'the sweep',
          })
        }
        for (const { id, attempt, generation } of await admissions(stack))
          if (attempt === 0) throw new Error(`${id} was admitted ${generation} times and never sent`)
      },
      caught: /dlv_\w+ was admitted 4 times and never sent/,
    },
    {
      name: 'no compare-and-set of the state at the lease',
      broken: {
        dispatcher: {
          texts: [{ module: 'packages/store/lease.ts', find: `WHERE d.state = 'queued'`, replace: 'WHERE true' }],
        },
      },
      async scenario({ stack, receiver, sender, start }) {
        await stack.apply(connected(loadConfig(receiver), { retry: { schedule: [farRetry] } }))
        await pause(stack, 'signed', true)
        receiver.on('/plain', failing(1))
        await Promise.all([start('ingest'), start('dispatcher')])
        const router = await start('router', { point: 'router.after_route', signal: 'SIGSTOP' })
        await sender.send()
        // The sweep is faster than the router, which has the jobs yet to add.
        await untilState(stack, 'plain', 'queued')
        await stack.shiftClock(queueWaitMs)
        await untilState(stack, 'plain', 'retrying')
        router.signal('SIGCONT')
        await untilJobsTaken(stack)
        // A job ends with the lease: an attempt that should not be is under way still.
        await until(async () => (await deliveryTo(stack, 'plain')).state !== 'leased', { what: 'no attempt under way' })
        const retriesDueMs = Date.now()
        await stack.shiftClock(farRetryMs)
        await pause(stack, 'signed', false)
        return { mayRepeat: (_id, requests) => requests.slice(1).every(({ at }) => at >= retriesDueMs) }
      },
      caught: /I4: dlv_\w+ was sent \d times/,
    },
    {
      name: 'BullMQ’s `failed` is final',
      broken: {
        dispatcher: {
          texts: [
            { module: hintWorker, find: 'maxStalledCount: Number.MAX_SAFE_INTEGER', replace: 'maxStalledCount: 0' },
            {
              module: hintWorker,
              find: `worker.on('error', params.onError)`,
              replace: `worker.on('error', params.onError)
                worker.on('failed', (job) => globalThis.endForGood(job.data.deliveries.map(({ id }) => id)))`,
            },
            {
              module: wiring,
              find: 'const epoch = openEpoch(',
              replace: `globalThis.endForGood = (ids) => store.fast.query({ values: [ids], text: \`
                UPDATE deliveries SET state = 'dead', dead_reason = 'retries_used_up', due_at = NULL, admitted = false, wake_at = NULL,
                  lease_token = NULL, finished_at = clock() WHERE id = ANY($1) AND due_at IS NOT NULL\` })
                const epoch = openEpoch(`,
            },
          ],
        },
      },
      // A killed worker's job is noticed soon.
      weather: {
        dispatcher: { texts: [{ module: consumer, find: 'lockMsDefault = 30_000', replace: 'lockMsDefault = 1_000' }] },
      },
      async scenario({ stack, sender, start }) {
        await Promise.all([start('ingest'), start('router')])
        const dispatcher = await start('dispatcher', { point: 'dispatcher.after_lease', signal: 'SIGKILL' })
        await sender.send()
        await dispatcher.exited()
        await start('dispatcher')
        await untilJobsTaken(stack)
      },
      caught: /I1: dlv_\w+ ended dead/,
    },
    {
      name: 'the retry limit counts leases',
      broken: {
        dispatcher: { texts: [{ module: storeSweep, find: 'lostLeasesMax = 20', replace: 'lostLeasesMax = 1' }] },
      },
      async scenario({ sender, start }) {
        await Promise.all([start('ingest'), start('router')])
        const dispatcher = await start('dispatcher', { point: 'dispatcher.after_lease', signal: 'SIGKILL' })
        await sender.send()
        await dispatcher.exited()
        await start('dispatcher')
      },
      caught: /I1: dlv_\w+ is dead and never arrived/,
    },
  ],
})

async function admissions({ store }: Stack): Promise<{ id: string; attempt: number; generation: number }[]> {
  const { rows } = await store.durable.query<{ id: string; attempt: number; generation: number }>(
    'SELECT id, attempt, generation FROM deliveries',
  )
  return rows
}
