import { setTimeout as pause } from 'node:timers/promises'
import { timeOfId } from '@tenterhook/schemas/ids'
import { Command } from 'commander'
import { type DeliverySummary, deliveryPage, eventPage, type EventSummary } from './api-shapes.ts'
import { CommandError } from './command-error.ts'
import { reachConsole, type ConsoleClient } from './console-client.ts'
import { deliveryWords, eventLine } from './event-text.ts'
import { createEventWatch, type EventWatch, type Found, type News } from './event-watch.ts'
import type { Surroundings } from './surroundings.ts'

type Flags = { source?: string; json?: boolean }

const pollEveryMs = 500
/** Shown at the start, as `tail` shows the last lines of a file. */
const firstEventsMax = 10
const pageRowsMax = 200
const pagesPerLookMax = 10

export function eventsTailCommand(surroundings: Surroundings): Command {
  return new Command('tail')
    .description('the newest events and what becomes of them, a line each, until Ctrl-C')
    .option('--source <name>', 'only of this source')
    .option('--json', 'a JSON object a line')
    .action((flags: Flags) => tail(flags, surroundings))
}

async function tail({ source, json = false }: Flags, surroundings: Surroundings): Promise<void> {
  const { out, note, stopSignal, monotonicMs } = surroundings
  const stop = stopSignal()
  let client: ConsoleClient | undefined = await reachConsole(surroundings, stop)
  let watch: EventWatch | undefined
  let away = false
  while (!stop.aborted) {
    try {
      client ??= await reachConsole(surroundings, stop)
      watch ??= await begin(client, source, monotonicMs())
      for (const news of await look(client, watch, source, surroundings))
        out(json ? JSON.stringify(news) : newsLine(news))
      if (away) note('the console answers again')
      away = false
    } catch (error) {
      if (stop.aborted) return
      if (watch === undefined || !isAway(error)) throw error
      if (!away) note(`${error.message}; waiting for it`)
      away = true
      // It may come back at another port.
      client = undefined
    }
    await pause(pollEveryMs, undefined, { signal: stop }).catch(() => {})
  }
}

function isAway(error: unknown): error is CommandError {
  return error instanceof CommandError && (error.code === 'console_unreachable' || error.code === 'not_running')
}

/** The source may not have had an event for long: the newest of all says from when on to look. */
async function begin(client: ConsoleClient, source: string | undefined, nowMs: number): Promise<EventWatch> {
  const newest = (await client.get('/v1/events?limit=1', eventPage)).data[0]
  const last = (await client.get(`/v1/events?limit=${firstEventsMax}${ofSource(source)}`, eventPage)).data
  const watch = createEventWatch({ newestMs: newest ? timeOfId(newest.id) : 0, oldestId: last.at(-1)?.id ?? '' })
  watch.meet(last, nowMs)
  return watch
}

async function look(
  client: ConsoleClient,
  watch: EventWatch,
  source: string | undefined,
  { note, monotonicMs }: Surroundings,
): Promise<News[]> {
  const events = await readAll<EventSummary>(
    (query) => client.get(`/v1/events?${query}${ofSource(source)}`, eventPage),
    watch.eventsSinceMs(),
  )
  if (!events.complete) note(`more events came at once than can be shown: these are the newest ${events.rows.length}`)
  watch.meet(events.rows, monotonicMs())
  const sinceMs = watch.deliveriesSinceMs()
  if (sinceMs === undefined) return []
  const deliveries = await readAll<DeliverySummary>(
    (query) => client.get(`/v1/deliveries?${query}`, deliveryPage),
    sinceMs,
  )
  return watch.news(deliveries, monotonicMs())
}

function ofSource(source: string | undefined): string {
  return source === undefined ? '' : `&source=${encodeURIComponent(source)}`
}

/** The pages of a list back to a time, as far as they are bounded. */
async function readAll<Row>(
  page: (query: string) => Promise<{ data: Row[]; next: string | null }>,
  sinceMs: number,
): Promise<Found<Row>> {
  const rows: Row[] = []
  let cursor: string | null = null
  for (let read = 0; read < pagesPerLookMax; read++) {
    const query = new URLSearchParams({ limit: String(pageRowsMax), since: new Date(sinceMs).toISOString() })
    if (cursor !== null) query.set('cursor', cursor)
    const { data, next } = await page(query.toString())
    rows.push(...data)
    if (next === null) return { rows, complete: true }
    cursor = next
  }
  return { rows, complete: false }
}

function newsLine(news: News): string {
  if (news.kind === 'event') return eventLine(news.event, news.deliveries)
  const { delivery } = news
  return `${(delivery.finishedAt ?? '').slice(11, 24).padEnd(13)}  ${delivery.eventId}  → ${deliveryWords(delivery)} after all`
}
