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
/** The mean of what was waiting at each look inside the window: what the backlog really was. */
export type FillerReport = { waitingMean: number }

/** Often enough that a backlog of a thousand doesn't run dry between two looks: 20 ms of 5,000/s are 100. */
const topUpEveryMs = 20

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
  const seen = { sum: 0, looks: 0 }
  while (nowUs() < window.toUs) {
    const [arrived, admittedMost] = await Promise.all([readArrived(sinkUrl), readWindows(store, source)])
    const waits = seeder.added() - arrived - admittedMost
    if (nowUs() >= window.fromUs) {
      seen.sum += Math.max(0, waits)
      seen.looks++
    }
    if (waits < waiting) await seeder.add(waiting - waits)
    await pause(topUpEveryMs)
  }
  return Math.round(seen.sum / Math.max(1, seen.looks))
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
    return { waitingMean: question.deliveries }
  }
  if (filling === undefined) throw new Error('a backlog is filled before it is kept')
  return { waitingMean: await keep(question, filling) }
})
