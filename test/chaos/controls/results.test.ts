import { loadConfig } from '../../support/load.ts'
import { until } from '../../support/poll.ts'
import { deliveriesOf } from '../../support/rows.ts'
import type { Stack } from '../../support/stack.ts'
import { provesControls } from './control.ts'
import type { World } from './control.ts'
import { gateAt } from './gate.ts'
import type { Gate } from './gate.ts'
import { atATime, deliveryTo, pause, untilState } from './plain.ts'
import { holdAsynchronousCommits, holdDelivery, lockedSessions, untilLocked } from './postgres.ts'
import { leaseMs, queueWaitMs } from './waits.ts'

const dispatcherSessions = 'tenterhook-dispatcher'
const results = 'packages/store/results.ts'
/** Of a failure, in results.ts: what the controls leave out. */
const ownLease = 'd.lease_token = r.token)'

/** Past the first retry's wait; no lease ends by it. */
const retryMs = 5_000

/** Each delivery at most once more than it should: one fault, one repeat. */
const onceMore = { mayRepeat: (_id: string, requests: readonly unknown[]) => requests.length <= 2 }

provesControls({
  services: ['ingest', 'router', 'dispatcher', 'dispatcher'],
  postgres: 'own',
  controls: [
    {
      name: 'a failure matched by its attempt’s number instead of its token',
      broken: {
        dispatcher: {
          texts: [
            {
              module: results,
              find: ownLease,
              replace: `d.attempt = (SELECT u.number FROM unnest($1::text[], $6::int[]) AS u(id, number) WHERE u.id = d.id))`,
            },
          ],
        },
      },
      async scenario({ may, stack, start, sender, receiver }) {
        await Promise.all([start('ingest'), start('router')])
        const gate = gateAt(receiver, '/plain')
        await sender.send()
        await until(async () => (await deliveriesOf(stack.store)).length === 2, { what: 'it to be routed' })
        await stack.store.durable.query('CHECKPOINT')
        await using commits = await holdAsynchronousCommits(stack.store)
        const first = await start('dispatcher')
        await gate.arrived(1)
        first.signal('SIGSTOP')
        await commits.crash()
        // The lease is lost, and taken once more: the same generation, the same number.
        await stack.shiftClock(queueWaitMs)
        await start('dispatcher2')
        await gate.arrived(2)
        gate.answer(0, 500)
        first.signal('SIGCONT')
        await untilRecorded(stack, 'plain', 1)
        await stack.shiftClock(retryMs)
        await may(() => gate.count() >= 3)
        gate.letAllPass()
        return onceMore
      },
      caught: /I4: dlv_\w+ was sent 3 times/,
    },
    {
      name: 'a failure matched by the state alone',
      broken: { dispatcher: { texts: [{ module: results, find: ownLease, replace: 'true)' }] } },
      async scenario(world) {
        const gate = await twoAttempts(world)
        gate.answer(0, 500)
        world.stack.service('dispatcher').signal('SIGCONT')
        await untilRecorded(world.stack, 'plain', 1)
        await world.stack.shiftClock(retryMs)
        await world.may(() => gate.count() >= 3)
        gate.letAllPass()
        return onceMore
      },
      caught: /I4: dlv_\w+ was sent 3 times/,
    },
    {
      name: 'a success only with a matching lease',
      broken: {
        dispatcher: {
          texts: [
            {
              module: results,
              find: `(r.kind = 'delivered' AND d.state <> 'delivered')`,
              replace: `(r.kind = 'delivered' AND d.state = 'leased' AND d.lease_token = r.token)`,
            },
          ],
        },
      },
      async scenario({ may, stack, start, sender, receiver }) {
        const gate = gateAt(receiver, '/plain')
        await Promise.all([start('ingest'), start('router')])
        const first = await start('dispatcher')
        await sender.send()
        await gate.arrived(1)
        await untilState(stack, 'signed', 'delivered')
        first.signal('SIGSTOP')
        // Its lease ends meanwhile, and a pause keeps anybody from taking the next.
        await pause(stack, 'plain', true)
        await stack.shiftClock(leaseMs)
        await start('dispatcher2')
        await until(async () => (await deliveryTo(stack, 'plain')).state === 'retrying', { what: 'the lease to end' })
        gate.answer(0, 200)
        first.signal('SIGCONT')
        await untilRecorded(stack, 'plain', 1)
        await pause(stack, 'plain', false)
        await may(() => gate.count() >= 2)
        gate.letAllPass()
      },
      caught: /I4: dlv_\w+ was sent 2 times/,
    },
    {
      name: 'a late success ends another’s living lease',
      broken: {
        dispatcher: {
          texts: [
            {
              module: results,
              find: `d.state = 'leased' AND d.lease_token <> r.token THEN 'leased'`,
              replace: `false THEN 'leased'`,
            },
          ],
        },
      },
      async scenario(world) {
        const { stack, sender, receiver } = world
        await stack.apply(atATime(loadConfig(receiver), 1))
        const gate = await twoAttempts(world)
        await sender.send()
        gate.answer(0, 200)
        stack.service('dispatcher').signal('SIGCONT')
        await untilRecorded(stack, 'plain', 1)
        await world.may(() => gate.count() >= 3)
        const open = gate.open()
        gate.letAllPass()
        if (open > 1) throw new Error(`${open} requests were open at a destination that takes one at a time`)
        return onceMore
      },
      caught: /2 requests were open at a destination that takes one at a time/,
    },
    {
      name: 'the lease sweep selects, then updates by id',
      broken: {
        dispatcher: {
          texts: [
            {
              module: 'packages/store/sweep.ts',
              find: 'LIMIT $1 FOR UPDATE SKIP LOCKED',
              replace: 'LIMIT $1',
            },
          ],
        },
      },
      async scenario({ may, stack, start, sender, receiver }) {
        const gate = gateAt(receiver, '/plain')
        await Promise.all([start('ingest'), start('router'), start('dispatcher')])
        await sender.send()
        await gate.arrived(1)
        await untilState(stack, 'signed', 'delivered')
        // Its result and the sweep come to one row together, the result first.
        await using row = await holdDelivery(stack.databaseUrl, (await deliveryTo(stack, 'plain')).id)
        gate.answer(0, 200)
        await untilLocked(stack.store, dispatcherSessions, 1)
        await stack.shiftClock(leaseMs)
        // Unless it passes over what is locked.
        await may(async () => (await lockedSessions(stack.store, dispatcherSessions)) === 2)
        await row.letGo()
        await may(() => gate.count() >= 2)
        gate.letAllPass()
      },
      caught: /I4: dlv_\w+ was sent 2 times/,
    },
    {
      name: 'random delivery ids',
      broken: {
        router: {
          texts: [
            {
              module: 'services/router/route.ts',
              find: 'deriveDeliveryId(event.id, connection.id)',
              replace: 'deriveDeliveryId(event.id, connection.id, { key: crypto.randomUUID(), nowMs: Date.now() })',
            },
          ],
        },
      },
      async scenario({ stack, start, sender, receiver }) {
        await Promise.all([start('ingest'), start('dispatcher')])
        await sender.send()
        await using commits = await holdAsynchronousCommits(stack.store)
        await start('router')
        await until(() => receiver.count('/plain') > 0 && receiver.count('/signed') > 0, { what: 'it to be delivered' })
        // Sent, and the routing is lost.
        await commits.crash()
        return onceMore
      },
      caught: /I2: dlv_\w+ arrived, and the tables don't have it/,
    },
  ],
})

/** A first dispatcher that is stopped past its lease after sending, and a second one's attempt of the same delivery under way. */
async function twoAttempts(world: World): Promise<Gate> {
  const { stack, start, sender, receiver } = world
  const gate = gateAt(receiver, '/plain')
  await Promise.all([start('ingest'), start('router')])
  const first = await start('dispatcher')
  await sender.send()
  await gate.arrived(1)
  first.signal('SIGSTOP')
  await stack.shiftClock(leaseMs)
  await start('dispatcher2')
  await gate.arrived(2)
  return gate
}

/** A result is recorded with its attempt, whether or not it changes anything. */
async function untilRecorded({ store }: Stack, destination: string, attempts: number): Promise<void> {
  await until(
    async () => {
      const { rows } = await store.durable.query<{ kept: number }>(
        `SELECT count(*)::int AS kept FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
         JOIN destinations t ON t.id = d.destination_id WHERE t.name = $1`,
        [destination],
      )
      return rows[0]?.kept === attempts
    },
    { what: `${attempts} attempts to be recorded`, timeoutMs: 20_000 },
  )
}
