import { z } from 'zod'
import { durationBetween } from './duration.ts'
import { name } from './name.ts'

/** DESIGN §6: about three days in all. */
export const defaultSchedule = ['5s', '30s', '2m', '15m', '1h', '3h', '6h', '12h', '24h', '24h']
export const scheduleStepsMax = 50

export const retryPolicy = z.strictObject({
  /** The wait before each retry; its length is the number of retries. */
  schedule: z.array(durationBetween('100ms', '7d')).max(scheduleStepsMax).default(defaultSchedule),
  /** Each wait is spread by ± this fraction, so that retries of one outage don't return together. */
  jitter: z.number().min(0).max(0.5).default(0.2),
  /** A delivery older than this ends as a dead letter (`expired`), whatever it was waiting for. */
  maxAge: durationBetween('1s', '30d').default('7d'),
})

/** A path as packages/rules reads it is never longer. */
const orderPathCharsMax = 500
const orderPath = z
  .string()
  .min(1, 'expected a path such as body.customer.id')
  .max(orderPathCharsMax, `expected a path of at most ${orderPathCharsMax} characters`)

/**
 * Strict order: events with one key, the value at `by` (checked by packages/rules, order-key.ts), are delivered one at
 * a time in the order of their acceptance. `hold`: a failing one holds those behind it until it succeeds or dies;
 * `skip`: they pass it while it waits for its retry. A bare path means hold.
 */
export const connectionOrder = z
  .union([
    orderPath,
    z.strictObject({
      by: orderPath,
      onFailure: z.enum(['hold', 'skip'], 'expected hold or skip').default('hold'),
    }),
  ])
  .transform((order) => (typeof order === 'string' ? { by: order, onFailure: 'hold' as const } : order))

export const connectionSpec = z.strictObject({
  name,
  source: name,
  destination: name,
  enabled: z.boolean().default(true),
  /** MongoDB query syntax over { body, headers, query, path, type, source }: DESIGN §5. Checked by packages/rules. */
  filter: z.record(z.string(), z.unknown()).default({}),
  /** Wait this long after routing before the first attempt. */
  delay: durationBetween('0s', '30d').default('0s'),
  order: connectionOrder.optional(),
  retry: retryPolicy.default({ schedule: defaultSchedule, jitter: 0.2, maxAge: '7d' }),
})
export type ConnectionSpec = z.output<typeof connectionSpec>
export type ConnectionInput = z.input<typeof connectionSpec>
