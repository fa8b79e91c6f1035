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
  /** Attempts under way at once, over all lanes: one at least in each. No destination gets more than a tenth of them. */
  TENTERHOOK_DISPATCHER_CONCURRENCY: wholeNumber({ min: 3, max: 2_000 }).default(512),
  TENTERHOOK_ALLOW_UNSAFE_POSTGRES: flag.default(false),
}
