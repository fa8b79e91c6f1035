import { z } from 'zod'

/** Of what the console answers, what commands show. All the rest passes through, for `--json`. */

const named = z.looseObject({ name: z.string().nullable() })

const event = z.looseObject({
  id: z.string(),
  source: named,
  type: z.string().nullable(),
  state: z.string(),
  bodyBytes: z.number(),
  receivedAt: z.string(),
})
export type EventSummary = z.output<typeof event>

const delivery = z.looseObject({
  id: z.string(),
  eventId: z.string(),
  connection: named,
  destination: named,
  state: z.string(),
  attempts: z.number(),
  failures: z.number(),
  dueAt: z.string().nullable(),
  deadReason: z.string().nullable(),
  finishedAt: z.string().nullable(),
  replayOf: z.string().nullable(),
  held: z.boolean(),
  heldBy: z.looseObject({ kind: z.string() }).nullable(),
})
export type DeliverySummary = z.output<typeof delivery>

const attempt = z.looseObject({
  number: z.number(),
  startedAt: z.string(),
  outcome: z.string(),
  status: z.number().nullable(),
  code: z.string().nullable(),
  detail: z.string().nullable(),
  timings: z.looseObject({ totalMs: z.number().optional() }).nullable(),
})
export type Attempt = z.output<typeof attempt>

const reason = z.looseObject({
  path: z.string(),
  operator: z.string(),
  expected: z.unknown().optional(),
  /** Missing where the event has no such field. */
  actual: z.unknown().optional(),
  hint: z.string().optional(),
})
export type Reason = z.output<typeof reason>
const mismatch = z.looseObject({ connection: z.string(), why: z.string(), reason: reason.optional() })
export type Mismatch = z.output<typeof mismatch>

/** A list's page: newest first. */
export const eventPage = z.looseObject({ data: z.array(event), next: z.string().nullable() })
export const deliveryPage = z.looseObject({ data: z.array(delivery), next: z.string().nullable() })

export const eventDetail = event.extend({
  routedAt: z.string().nullable(),
  configVersion: z.number().nullable(),
  method: z.string(),
  path: z.string(),
  query: z.string(),
  headers: z.array(z.tuple([z.string(), z.string()])),
  remoteAddress: z.string().nullable(),
  notMatched: z.array(mismatch).nullable(),
  traceId: z.string().nullable(),
  /** Both null when the body is too large to be shown; the text alone when it is not UTF-8. */
  bodyBase64: z.string().nullable(),
  bodyText: z.string().nullable(),
  deliveries: z.array(delivery),
  duplicates: z.array(z.unknown()),
})
export type EventDetail = z.output<typeof eventDetail>

export const deliveryDetail = delivery.extend({ history: z.array(attempt) })
export type DeliveryDetail = z.output<typeof deliveryDetail>

export const replayed = z.looseObject({
  deliveries: z.array(z.looseObject({ id: z.string(), connection: z.looseObject({ name: z.string() }) })),
  notMatched: z.array(mismatch),
})
/** Of a pause, a resume and a list: all three show the whole. */
export const pausable = z.looseObject({ name: z.string(), paused: z.boolean(), pauseReason: z.string().nullable() })

const destination = pausable.extend({
  health: z.looseObject({
    state: z.string(),
    waitsUntil: z.string().nullable(),
    failingSince: z.string().nullable(),
    failuresInRow: z.number(),
    slowUntil: z.string().nullable(),
    window: z.number(),
    admitted: z.number(),
    waiting: z.number(),
    moreWaiting: z.boolean(),
  }),
})
export type Destination = z.output<typeof destination>
export const destinationPage = z.looseObject({ data: z.array(destination), next: z.string().nullable() })

export const cancelled = z.looseObject({ id: z.string(), attemptInFlight: z.boolean() })
export const retried = z.looseObject({ id: z.string(), was: z.string() })
