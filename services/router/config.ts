import { serviceVariables } from '@tenterhook/lifecycle/service-variables'
import {
  databaseUrl,
  durationWithin,
  encryptionKeys,
  flag,
  redisUrl,
  wholeNumber,
} from '@tenterhook/lifecycle/variables'

/** What the router reads from its environment. */
export const routerVariables = {
  ...serviceVariables,
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys,
  /** Route jobs handled at a time, each a batch of events. */
  TENTERHOOK_ROUTER_CONCURRENCY: wholeNumber({ min: 1, max: 64 }).default(3),
  /** How long days of events, deliveries and attempts are kept. Not less than what a delivery may take by default (`retry.maxAge`). */
  TENTERHOOK_RETENTION: durationWithin('7d', '3650d').default(2_592_000_000),
  TENTERHOOK_ALLOW_UNSAFE_POSTGRES: flag.default(false),
}
