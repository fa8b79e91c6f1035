import { serviceVariables } from '@tenterhook/lifecycle/service-variables'
import { cidrList, databaseUrl, encryptionKeys, flag, redisUrl, wholeNumber } from '@tenterhook/lifecycle/variables'

/** What the dispatcher reads from its environment. */
export const dispatcherVariables = {
  ...serviceVariables,
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys,
  /** Address ranges that deliveries may go to besides the public internet. */
  TENTERHOOK_ALLOW_CIDRS: cidrList.default([]),
  /** Attempts under way at once. */
  TENTERHOOK_DISPATCHER_CONCURRENCY: wholeNumber({ min: 1, max: 2_000 }).default(64),
  TENTERHOOK_ALLOW_UNSAFE_POSTGRES: flag.default(false),
}
