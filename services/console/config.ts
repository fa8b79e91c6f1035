import { serviceVariables } from '@tenterhook/lifecycle/service-variables'
import {
  cidrList,
  databaseUrl,
  encryptionKeys,
  flag,
  headerToken,
  port,
  redisUrl,
} from '@tenterhook/lifecycle/variables'
import { z } from 'zod'

/** What the console reads from its environment. Exactly one of the two that give the admin token is set. */
export const consoleVariables = {
  ...serviceVariables,
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  PORT: port.default(8081),
  TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys,
  TENTERHOOK_ADMIN_TOKEN: headerToken.optional(),
  /** A file that holds it: when it changes, the new token counts at once and every session of the old one is over. */
  TENTERHOOK_ADMIN_TOKEN_FILE: z.string().optional(),
  /** Lets Bull Board change queues. What it changes is only hints; what an operator means is in the API. */
  TENTERHOOK_BOARD_WRITABLE: flag.default(false),
  /** Only from these are X-Forwarded-* headers believed. */
  TENTERHOOK_TRUSTED_PROXIES: cidrList.default([]),
  TENTERHOOK_ALLOW_UNSAFE_POSTGRES: flag.default(false),
}
