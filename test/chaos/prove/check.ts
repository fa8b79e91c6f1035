/**
 * DESIGN §3's invariants, asked of what both sides wrote down, of the tables and of the faults that really were.
 * Pure: it can be shown evidence that lies, and has to notice (check.test.ts).
 */
import type { Arrival, Evidence, FaultRan, Sent } from './evidence.ts'
import { faultKinds } from './plan.ts'
import { healthyNames } from './topology.ts'
import type { HealthyName } from './topology.ts'

export type Violation = {
  invariant: 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I8' | 'I9' | 'I10' | 'order' | 'crash'
  what: string
}

export type Figures = {
  sent: number
  /** Answered 2xx. */
  accepted: number
  /** Committed, whatever the sender was told. */
  committed: number
  /** Accepted and not delivered to every healthy destination that wanted it. */
  lost: number
  deliveries: number
  arrivals: number
  /** Requests to healthy destinations that were answered 2xx and were not the first of their delivery. */
  repeats: number
  dead: number
  /** Not ended yet: a sick destination's, each with its time to wake up. */
  waiting: number
}

/** PROTOCOL §5: three times wal_writer_delay, and a slow disk. */
const crashTailMs = 2_000
/** From an attempt's answer until its result is in a transaction, on a busy machine. */
const recordMs = 2_000

/** DESIGN §7 and §3.7: what may be admitted at once, and Redis with it. */
const admittedMax = 50_000
const redisMbMax = 100
const redisKeysMax = 20_000
const rssMbMax = 1_024

const terminal = new Set(['delivered', 'dead', 'cancelled'])
const healthy: ReadonlySet<string> = new Set(healthyNames)

/** An error that nobody caught, a watchdog that gave up, a runtime that broke. */
const fatalEnd = /\((exit (70|75)|SIGABRT|SIGSEGV|SIGBUS)\)/

export function check(evidence: Evidence): { violations: Violation[]; figures: Figures } {
  const { sent, arrivals, events, deliveries, faults, samples } = evidence
  const violations: Violation[] = []
  const say = (invariant: Violation['invariant'], what: string) => void violations.push({ invariant, what })

  const sentByKey = new Map(sent.map((one) => [one.key, one]))
  const eventById = new Map(events.map((event) => [event.id, event]))
  const eventsByKey = Map.groupBy(events, (event) => event.key)
  const deliveryById = new Map(deliveries.map((delivery) => [delivery.id, delivery]))
  const deliveriesByEvent = Map.groupBy(deliveries, (delivery) => delivery.event)
  const arrivalsByDelivery = Map.groupBy(arrivals, (arrival) => arrival.delivery)

  // I3, and what the senders were told.
  for (const [key, same] of eventsByKey) {
    if (same.length > 1) say('I3', `${key} became ${same.length} events: ${same.map(({ id }) => id).join(', ')}`)
    const one = key === null ? undefined : sentByKey.get(key)
    if (one === undefined) say('I2', `${same[0]?.id} holds what nobody sent`)
    else if (same.some((event) => event.sha256 !== one.sha256))
      say('I5', `${key} is kept with other bytes than were sent`)
  }
  for (const one of sent) {
    for (const answer of one.answers) {
      if (typeof answer.status === 'number' && answer.status >= 400 && answer.status < 500)
        say('I1', `${one.key}, rightly signed, was answered ${answer.status} (${answer.code})`)
      if (isAcceptance(answer.status) && !eventsByKey.get(one.key)?.some(({ id }) => id === (answer.id ?? id)))
        say('I1', `${one.key} was accepted as ${answer.id}, which is not in the tables`)
    }
  }

  // I1 and I3: every committed event has one delivery for each connection that wants it, and each has arrived.
  const arrived = new Set(arrivals.map(({ key, destination }) => `${key} ${destination}`))
  let lost = 0
  for (const one of sent.filter(isAccepted)) {
    const missing = one.wants.filter((name) => !arrived.has(`${one.key} ${name}`))
    if (missing.length > 0) {
      lost += 1
      say('I1', `${one.key} was accepted and never reached ${missing.join(', ')}`)
    }
  }
  for (const event of events) {
    const one = event.key === null ? undefined : sentByKey.get(event.key)
    if (one === undefined) continue
    if (event.state !== 'routed') say('I1', `${event.id} ended ${event.state}`)
    const wanted = [...one.wants, ...(one.sick === null ? [] : [one.sick])].toSorted()
    const its = (deliveriesByEvent.get(event.id) ?? []).map(({ destination }) => destination).toSorted()
    if (its.join() !== wanted.join())
      say('I3', `${event.id} is wanted by ${wanted.join()} and has deliveries to ${its.join()}`)
  }

  // I6 and I1: everything has ended, well where the destination is well; what waits for a sick one has a time to wake up.
  for (const { id, event, destination, state, due, deadReason } of deliveries) {
    if (!eventById.has(event)) say('I2', `${id} is of ${event}, which is not in the tables`)
    if (terminal.has(state) === due) say('I6', `${id} is ${state} ${due ? 'with' : 'without'} a time to wake up`)
    if (!healthy.has(destination)) continue
    if (state !== 'delivered')
      say('I1', `${id} to ${destination} ended ${state}${deadReason === null ? '' : ` (${deadReason})`}`)
    else if (!arrivalsByDelivery.has(id)) say('I1', `${id} is delivered and never reached ${destination}`)
  }
  for (const event of events)
    if ((event.state === 'accepted') !== event.due)
      say('I6', `${event.id} is ${event.state} ${event.due ? 'with' : 'without'} a time to wake up`)

  // I2, I5, I9: what came is what was committed, byte for byte, signed, under the sender's trace.
  for (const arrival of arrivals) {
    const delivery = deliveryById.get(arrival.delivery)
    if (delivery === undefined) {
      say('I2', `${arrival.delivery} came to ${arrival.destination} and is not in the tables`)
      continue
    }
    const event = eventById.get(delivery.event)
    if (arrival.destination !== delivery.destination)
      say('I2', `${arrival.delivery} for ${delivery.destination} came to ${arrival.destination}`)
    if (arrival.sha256 !== event?.sha256 || arrival.key !== event.key)
      say('I5', `${arrival.delivery} came with other bytes`)
    if (arrival.signed === false)
      say('I5', `${arrival.delivery} came to ${arrival.destination} under no valid signature`)
    const one = arrival.key === null ? undefined : sentByKey.get(arrival.key)
    if (one !== undefined && arrival.trace !== one.trace)
      say('I9', `${arrival.delivery} came under trace ${arrival.trace}, sent under ${one.trace}`)
  }

  let repeats = 0
  for (const [id, all] of arrivalsByDelivery) {
    const answered = all.filter((arrival) => arrival.answered && healthy.has(arrival.destination))
    if (answered.length < 2) continue
    repeats += answered.length - 1
    const unexplained = unexplainedRepeat(answered, faults)
    if (unexplained !== undefined)
      say(
        'I4',
        `${id} was taken ${answered.length} times by ${unexplained.destination}; no fault had it under way at ${new Date(unexplained.at).toISOString()}`,
      )
  }

  for (const what of outOfOrder(evidence)) say('order', what)
  for (const what of evidence.crashes) say('crash', what)
  for (const what of evidence.deaths.filter((death) => fatalEnd.test(death))) say('crash', `${what}, by itself`)

  if (evidence.drainedMs === null) say('I8', 'it did not drain by itself')
  for (const what of new Set(samples.flatMap(beyondBounds))) say('I10', what)

  return {
    violations,
    figures: {
      sent: sent.length,
      accepted: sent.filter(isAccepted).length,
      committed: events.length,
      lost,
      deliveries: deliveries.length,
      arrivals: arrivals.length,
      repeats,
      dead: deliveries.filter(({ state }) => state === 'dead').length,
      waiting: deliveries.filter(({ state }) => !terminal.has(state)).length,
    },
  }
}

/** PROTOCOL §5: no event of a group comes to `ordered` before every earlier one of it has come there once. */
function outOfOrder({ sent, events, arrivals }: Evidence): string[] {
  const said: string[] = []
  const seqByKey = new Map(events.map(({ key, seq }) => [key, seq]))
  const groupByKey = new Map(sent.map(({ key, group }) => [key, group]))
  const latest = new Map<string, { seq: number; key: string }>()
  const seen = new Set<string>()
  for (const { key, destination } of arrivals.toSorted((a, b) => a.at - b.at)) {
    if (destination !== 'ordered' || key === null || seen.has(key)) continue
    seen.add(key)
    const [seq, group] = [seqByKey.get(key), groupByKey.get(key)]
    if (seq === undefined || group === undefined) continue
    const before = latest.get(group)
    if (before !== undefined && seq < before.seq) said.push(`${key} came after ${before.key}, which was accepted later`)
    else latest.set(group, { seq, key })
  }
  return said
}

/**
 * I4 as PROTOCOL §3's S4 has it: one more 2xx for each fault of the kinds that can repeat, which had the answer before
 * it under way: its request was open, or its result on the way to Postgres or in the tail that a crash loses. The first
 * answer that no such fault explains; undefined when all are.
 */
function unexplainedRepeat(answered: readonly Arrival[], faults: readonly FaultRan[]): Arrival | undefined {
  const inOrder = answered.toSorted((a, b) => a.at - b.at)
  const repeating = faults.filter((fault) => faultKinds[fault.kind].repeats(fault.target))
  const used = new Set<FaultRan>()
  for (const arrival of inOrder.slice(0, -1)) {
    const fault = repeating.find(
      (one) =>
        !used.has(one) &&
        arrival.at + recordMs + (faultKinds[one.kind].losesTail ? crashTailMs : 0) >= one.startMs &&
        arrival.at <= one.endMs + (faultKinds[one.kind].lingersMs ?? 0) + recordMs,
    )
    if (fault === undefined) return arrival
    used.add(fault)
  }
  return undefined
}

function beyondBounds(sample: Evidence['samples'][number]): string[] {
  const beyond: string[] = []
  for (const [name, mb] of Object.entries(sample.rssMb))
    if (mb > rssMbMax) beyond.push(`${name} held more than ${rssMbMax} MB`)
  if ((sample.admitted ?? 0) > admittedMax) beyond.push(`more than ${admittedMax} deliveries were admitted at once`)
  if ((sample.redisMb ?? 0) > redisMbMax) beyond.push(`Redis held more than ${redisMbMax} MB`)
  if ((sample.redisKeys ?? 0) > redisKeysMax) beyond.push(`Redis held more than ${redisKeysMax} keys`)
  return beyond
}

export function isAccepted(one: Sent): boolean {
  return one.answers.some(({ status }) => isAcceptance(status))
}

function isAcceptance(status: number | 'broken'): boolean {
  return typeof status === 'number' && status >= 200 && status < 300
}

export type Recovery = {
  fault: FaultRan
  /** From the fault's end until nearly everything that was accepted within a second was delivered in normal time. */
  normalMs: number
  /** From the fault's end until the last event that had been accepted by then had reached every healthy destination. */
  lastMs: number
  /** The same of `ordered`, which the others leave out: one lost lease holds all later events of its group. */
  lastOrderedMs: number
}

/** Of an event, from its 2xx until it has reached every healthy destination. */
const normalLatencyMs = 2_000
const normalShare = 0.9

export function recoveries({ sent, arrivals, faults }: Pick<Evidence, 'sent' | 'arrivals' | 'faults'>): Recovery[] {
  const firstAt = new Map<string, number>()
  for (const { key, destination, at } of arrivals) {
    const place = `${key} ${destination}`
    firstAt.set(place, Math.min(at, firstAt.get(place) ?? Infinity))
  }
  const spansTo = (which: (name: HealthyName) => boolean) =>
    sent.flatMap((one) => {
      const wants = one.wants.filter(which)
      const acceptedMs = one.answers.find(({ status }) => isAcceptance(status))?.at ?? Infinity
      const doneMs = Math.max(...wants.map((name) => firstAt.get(`${one.key} ${name}`) ?? Infinity))
      return wants.length === 0 || acceptedMs === Infinity ? [] : [{ acceptedMs, doneMs }]
    })
  const [spans, orderedSpans] = [spansTo((name) => name !== 'ordered'), spansTo((name) => name === 'ordered')]
  const seconds = Map.groupBy(spans, ({ acceptedMs }) => Math.floor(acceptedMs / 1_000))
  const lastSecond = Math.max(...seconds.keys())
  const normal = new Set<number>()
  for (const [second, its] of seconds) {
    const inTime = its.filter(({ acceptedMs, doneMs }) => doneMs - acceptedMs <= normalLatencyMs)
    if (inTime.length >= normalShare * its.length) normal.add(second)
  }
  return faults.map((fault) => {
    let second = Math.floor(fault.healMs / 1_000)
    // A second in which nothing was accepted is no normal one.
    while (second <= lastSecond && !normal.has(second)) second += 1
    return {
      fault,
      normalMs: Math.max(0, second * 1_000 - fault.healMs),
      lastMs: lastAfter(fault.healMs, spans),
      lastOrderedMs: lastAfter(fault.healMs, orderedSpans),
    }
  })
}

/** How long after that time the last event that had been accepted by then arrived. */
function lastAfter(timeMs: number, spans: readonly { acceptedMs: number; doneMs: number }[]): number {
  let lastMs = timeMs
  for (const { acceptedMs, doneMs } of spans)
    if (acceptedMs <= timeMs && doneMs < Infinity && doneMs > lastMs) lastMs = doneMs
  return lastMs - timeMs
}
