/**
 * Keeps a backlog at its size, in a process of its own, so that its cost can be told from the product's: as many
 * deliveries are added as arrive at the sink.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { openStore } from '@tenterhook/store/connect'
import type { Store } from '@tenterhook/store/connect'
import { request } from 'undici'
import { nowUs } from './clock.ts'
import type { ConfiguredSource } from './configure.ts'
import { createSeeder } from './seed.ts'
import type { Seeder } from './seed.ts'
import type { Window } from './sink.ts'
import { answerQuestions } from './worker.ts'

export type FillerQuestion =
  /** Makes the backlog, of this many deliveries at least. */
  | { kind: 'fill'; databaseUrl: string; source: ConfiguredSource; run: number; deliveries: number }
  /** Keeps it until the window ends. */
  | { kind: 'keep'; sinkUrl: string; waiting: number; window: Window }
/** The fewest that were waiting at any look inside the window: what the backlog really was. */
export type FillerReport = { waitingLeast: number }

/** Often enough that a backlog of a thousand never runs dry between two looks: 50 ms of 5,000/s are 250. */
const topUpEveryMs = 50

type Filling = { store: Store; source: ConfiguredSource; seeder: Seeder }
let filling: Filling | undefined

async function fill({
  databaseUrl,
  source,
  run,
  deliveries,
}: Extract<FillerQuestion, { kind: 'fill' }>): Promise<void> {
  await filling?.store.close()
  const store = openStore({ connectionString: databaseUrl, applicationName: 'tenterhook-bench' })
  const seeder = createSeeder({ store, source, run })
  filling = { store, source, seeder }
  await seeder.add(deliveries)
}

async function keep(
  { sinkUrl, waiting, window }: Extract<FillerQuestion, { kind: 'keep' }>,
  { store, source, seeder }: Filling,
): Promise<number> {
  let least = Infinity
  while (nowUs() < window.toUs) {
    const [arrived, admittedMost] = await Promise.all([readArrived(sinkUrl), readWindows(store, source)])
    const waits = seeder.added() - arrived - admittedMost
    if (nowUs() >= window.fromUs) least = Math.min(least, waits)
    if (waits < waiting) await seeder.add(waiting - waits)
    await pause(topUpEveryMs)
  }
  return Math.max(0, least)
}

async function readArrived(sinkUrl: string): Promise<number> {
  return Number(await (await request(sinkUrl)).body.text())
}

/** How many may be admitted together: their health sets it, so it is read each time. */
async function readWindows(store: Store, { connections }: ConfiguredSource): Promise<number> {
  const { rows } = await store.fast.query<{ win: number }>({
    text: 'SELECT win FROM destinations WHERE id = ANY($1::text[])',
    values: [connections.map(({ destinationId }) => destinationId)],
  })
  return rows.reduce((sum, { win }) => sum + win, 0)
}

answerQuestions<FillerQuestion, FillerReport>(async (question) => {
  if (question.kind === 'fill') {
    await fill(question)
    return { waitingLeast: question.deliveries }
  }
  if (filling === undefined) throw new Error('a backlog is filled before it is kept')
  return { waitingLeast: await keep(question, filling) }
})
