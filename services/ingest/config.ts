import { serviceVariables } from '@tenterhook/lifecycle/service-variables'
import { cidrList, databaseUrl, encryptionKeys, flag, httpUrl, port, redisUrl } from '@tenterhook/lifecycle/variables'

/** What ingest reads from its environment. */
export const ingestVariables = {
  ...serviceVariables,
  DATABASE_URL: databaseUrl,
  REDIS_URL: redisUrl,
  PORT: port.default(8080),
  TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys,
  /** The origin that senders know; schemes that sign the URL are verified against it. */
  TENTERHOOK_PUBLIC_URL: httpUrl,
  /** Only from these are X-Forwarded-* headers believed. */
  TENTERHOOK_TRUSTED_PROXIES: cidrList.default([]),
  TENTERHOOK_ALLOW_UNSAFE_POSTGRES: flag.default(false),
}
