import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { acceptEvents } from './accept.ts'
import { claimDueEvents, readAcceptedEvents } from './claim.ts'
import { pauseDestination, resumeDestination } from './destination-state.ts'
import { dueDestinations, expireHeld, handBack, unblock, unblockStuck } from './feed.ts'
import { newEvent } from '../../test/support/store.ts'
import { overdueDelivery, overdueEvent } from './overdue.ts'
import { setPace } from './pace.ts'
import { ensurePartitions } from './partitions.ts'
import { useProtocol } from './protocol.fixture.ts'
import { recordResults, releaseLeases } from './results.ts'
import { dueQueued, oldestDueAge, sweepLeases } from './sweep.ts'

const { current, accept, route, lease, feedOut, result } = useProtocol()

/** Rows in each backlog: a statement that walks it reads as many. */
const rowsMany = 20_000
/** What a statement may read beside its own batch: index entries of a page, some configuration. */
const rowsFew = 1_000

/** What lies in the tables while a statement runs, of the test's destination and connection. */
const backlogs = {
  'delivered, of a long history': `state = 'delivered', due_at = NULL`,
  'waiting, and due': `state = 'pending', due_at = clock() - interval '1 minute'`,
  'waiting for their retry': `state = 'retrying', failures = 1, due_at = clock() + interval '1 hour'`,
  'waiting, of another connection, which is paused': `state = 'pending', due_at = clock() - interval '1 minute', connection_id = 'con_paused'`,
  'admitted, of another destination': `state = 'queued', admitted = true, due_at = clock() + interval '1 hour', wake_at = clock() + interval '1 hour', destination_id = 'dst_other'`,
  'blocked behind one order key': `state = 'pending', due_at = clock() - interval '1 minute', order_key = 'k', blocked = true`,
} as const

async function fill(backlog: string): Promise<void> {
  const { store, source, destination, connection } = current()
  const { columns, values } = assignments(backlog, {
    connection_id: `'${connection}'`,
    destination_id: `'${destination}'`,
  })
  await store.durable.query(`
    INSERT INTO connections (id, name, source_id, destination_id, spec, managed_by, paused) VALUES ('con_paused', 'paused', '${source}', '${destination}', '{}', 'test', true);
    INSERT INTO deliveries (id, event_id, connection_version, source_id, seq, expires_at${columns})
    SELECT 'dlv_' || lpad(n::text, 26, '0'), 'evt', 1, '${source}', n, clock() + interval '1 day'${values} FROM generate_series(1, ${rowsMany}) n;
    INSERT INTO events (id, source_id, source_version, state, body_bytes, received_at)
    SELECT 'evt_' || lpad(n::text, 26, '0'), '${source}', 1, 'routed', 1, clock() FROM generate_series(1, ${rowsMany}) n;
    INSERT INTO event_content (event_id, method, path, query, headers, body) VALUES ('evt', 'POST', '', '', '[]', '')`)
}

function assignments(backlog: string, defaults: Record<string, string>): { columns: string; values: string } {
  const given = new Map([
    ...Object.entries(defaults),
    ...backlog.split(', ').map((one) => one.split(' = ') as [string, string]),
  ])
  return {
    columns: [...given.keys()].map((name) => `, ${name}`).join(''),
    values: [...given.values()].map((value) => `, ${value}`).join(''),
  }
}

/** Every statement of the delivery path. What it needs is made before it is watched. */
const statements: Record<string, () => Promise<() => Promise<unknown>>> = {
  accept: async () => {
    const { store, source } = current()
    return () => acceptEvents(store.durable, [newEvent(source, { key: randomUUID() })], 5_000)
  },
  readAcceptedEvents: async () => {
    const events = await accept(3)
    return () => readAcceptedEvents(current().store.fast, events)
  },
  claimDueEvents: async () => () => claimDueEvents(current().store.fast, 10, 5_000),
  route: async () => {
    const events = await accept(3)
    return () => route(events)
  },
  routeOrdered: async () => {
    const events = await accept(3)
    return () => route(events, { orderKey: 'k' })
  },
  feed: async () => () => feedOut(100),
  dueDestinations: async () => () => dueDestinations(current().store.fast, null, 10),
  lease: async () => {
    const jobs = await queuedNow()
    return () => lease(jobs)
  },
  recordResults: async () => {
    const jobs = await lease(await queuedNow())
    return () =>
      recordResults(
        current().store.fast,
        jobs.map((one) => result(one, { kind: 'retry', delayMs: 1_000 })),
      )
  },
  releaseLeases: async () => {
    const jobs = await lease(await queuedNow())
    return () => releaseLeases(current().store.fast, jobs, 0)
  },
  handBack: async () => {
    const jobs = await queuedNow()
    return () => handBack(current().store.fast, jobs)
  },
  unblock: async () => () => unblock(current().store.fast, [{ connectionId: current().connection, orderKey: 'k' }]),
  expireHeld: async () => {
    const { store, destination } = current()
    return async () => {
      await pauseDestination(store.durable, destination, 'test')
      await expireHeld(store.fast, 10)
      await resumeDestination(store.durable, destination)
    }
  },
  setPace: async () => () =>
    setPace(current().store.fast, [{ destinationId: current().destination, window: 256, slowForMs: 0 }]),
  unblockStuck: async () => () => unblockStuck(current().store.fast, null, 100),
  sweepLeases: async () => () => sweepLeases(current().store.fast, 10),
  dueQueued: async () => () => dueQueued(current().store.fast, 'normal', 10),
  oldestDueAge: async () => () => oldestDueAge(current().store.guarded),
  overdueEvent: async () => () => overdueEvent(current().store.durable, 5_000),
  overdueDelivery: async () => () => overdueDelivery(current().store.durable, 5_000),
}

/** Three deliveries as the queue would bring them. */
async function queuedNow() {
  const { store } = current()
  const events = await accept(3)
  await route(events)
  const { rows } = await store.durable.query<Parameters<typeof lease>[0][number]>({
    text: `UPDATE deliveries SET state = 'queued', admitted = true, generation = 1, due_at = clock(), wake_at = clock() + interval '1 minute'
      WHERE event_id = ANY($1) RETURNING id, generation`,
    values: [events],
  })
  return rows.map((row) => ({ ...row, token: randomUUID() }))
}

async function rowsRead(): Promise<number> {
  const { store } = current()
  for (const pool of [store.fast, store.durable, store.guarded]) await pool.query('SELECT pg_stat_force_next_flush()')
  const { rows } = await store.durable.query<{ n: number }>({
    text: `SELECT sum(idx_tup_fetch + seq_tup_read)::int AS n FROM pg_stat_user_tables WHERE schemaname = $1 AND relname ~ '^(deliveries|events|attempts)'`,
    values: [store.schema],
  })
  return rows[0]?.n ?? 0
}

test.each(
  Object.entries(backlogs).flatMap(([what, backlog]) => [false, true].map((known) => ({ what, backlog, known }))),
)(
  'with $what (known to the planner: $known), no statement reads more than its own',
  { timeout: 60_000 },
  async ({ backlog, known }) => {
    await fill(backlog)
    if (known)
      await current().store.durable.query(
        'ANALYZE deliveries; ANALYZE events; ANALYZE connections; ANALYZE destinations',
      )
    const read: Record<string, number> = {}
    for (const [name, prepare] of Object.entries(statements)) {
      const statement = await prepare()
      const before = await rowsRead()
      await statement()
      read[name] = (await rowsRead()) - before
    }
    expect(Object.entries(read).filter(([, rows]) => rows >= rowsFew)).toEqual([])
    // They do read, and it is counted.
    expect(read['lease']).toBeGreaterThan(0)
  },
)

test('the days that are made later are as unknown to the planner', async () => {
  const { store } = current()
  await ensurePartitions(store.durable, Date.now())
  const { rows } = await store.durable.query({
    text: `SELECT DISTINCT a.attstattarget FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhrelid
      WHERE i.inhparent IN ('deliveries'::regclass, 'events'::regclass) AND a.attnum > 0`,
  })
  expect(rows).toEqual([{ attstattarget: 0 }])
})
