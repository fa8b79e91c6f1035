/**
 * Names to addresses, for sends only.
 *
 * It owns a cache of answers, bounded in entries and in time, and one query at a time per name: a thousand deliveries to
 * one name ask once. Every query has a c-ares channel of its own, so that its deadline can cancel it and nothing else,
 * and so that a changed resolv.conf counts at once (a channel costs 40 µs, and only when the cache has no answer).
 *
 * What it refuses: `dns.lookup`, whose four threads a few dead names keep busy for everyone. So it asks for exactly the
 * name that was written: /etc/hosts counts (hosts.ts), search domains, mDNS and other sources of nsswitch.conf don't.
 */
import { Resolver as Query } from 'node:dns'
import { createHosts } from './hosts.ts'

export type Resolution =
  /** At least one address, IPv4 and IPv6 in turn. */
  | { kind: 'resolved'; addresses: readonly string[] }
  | { kind: 'failed'; code: 'dns_failed' | 'dns_timeout'; detail: string }

export type Resolver = {
  /** Never throws, and asks no longer than the deadline. `name` is lower case, as the URL parser leaves it. */
  resolve(name: string): Promise<Resolution>
}

/** One try of one server; three of them fit into the default deadline. */
const tryTimeoutMs = 600
const triesMax = 3
/** With one family's addresses in hand, how long to wait for the other's (RFC 8305 §3). */
const familyGraceMs = 50
const addressesMax = 8
const ttlMinMs = 1_000
/** Shorter than what names promise: a moved receiver is found within a minute. */
const ttlMaxMs = 60_000
/** "No such name" is asked again after this; a server that failed or kept silent, after the shorter one. */
const absentTtlMs = 5_000
const failedTtlMs = 1_000
const cacheEntriesMax = 10_000

export type ResolverOptions = {
  monotonicMs: () => number
  /** Addresses of DNS servers, with or without a port; the system's when absent. */
  servers?: readonly string[]
  hostsPath?: string
  timeoutMs?: number
}

export function createResolver({
  monotonicMs,
  servers,
  hostsPath = '/etc/hosts',
  timeoutMs = 2_000,
}: ResolverOptions): Resolver {
  const hosts = createHosts({ path: hostsPath, monotonicMs })
  /** Least recently used first. */
  const cache = new Map<string, { resolution: Resolution; untilMs: number }>()
  const asking = new Map<string, Promise<Resolution>>()

  function remember(name: string, { resolution, ttlMs }: Answer): Resolution {
    cache.delete(name)
    cache.set(name, { resolution, untilMs: monotonicMs() + ttlMs })
    const oldest = cache.keys().next()
    if (cache.size > cacheEntriesMax && !oldest.done) cache.delete(oldest.value)
    return resolution
  }

  return {
    async resolve(name) {
      const local = await hosts.addressesOf(name)
      if (local.length > 0) return { kind: 'resolved', addresses: local.slice(0, addressesMax) }

      const cached = cache.get(name)
      if (cached !== undefined && monotonicMs() < cached.untilMs) {
        cache.delete(name)
        cache.set(name, cached)
        return cached.resolution
      }
      let asked = asking.get(name)
      if (asked === undefined) {
        asked = ask(name, { servers, timeoutMs })
          .then((answer) => remember(name, answer))
          .finally(() => asking.delete(name))
        asking.set(name, asked)
      }
      return asked
    },
  }
}

type Answer = { resolution: Resolution; ttlMs: number }
type Family = { addresses: string[]; ttlMs: number; error: string | undefined }

/** Both families at once, within the deadline. Half an answer is an answer: the other half failing only shortens it. */
function ask(
  name: string,
  { servers, timeoutMs }: { servers: readonly string[] | undefined; timeoutMs: number },
): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>()
  const query = new Query({ timeout: tryTimeoutMs, maxTimeout: tryTimeoutMs, tries: triesMax })
  if (servers !== undefined) query.setServers(servers)
  const families: [Family | undefined, Family | undefined] = [undefined, undefined]
  let grace: NodeJS.Timeout | undefined

  const finish = () => {
    clearTimeout(deadline)
    clearTimeout(grace)
    resolve(answerOf(name, families))
    query.cancel()
  }
  const deadline = setTimeout(finish, timeoutMs)

  const settle =
    (index: 0 | 1) =>
    (error: NodeJS.ErrnoException | null, records: ReadonlyArray<{ address: string; ttl: number }> = []) => {
      families[index] = {
        addresses: records.map(({ address }) => address),
        ttlMs: 1_000 * Math.min(...records.map(({ ttl }) => ttl)),
        error: error?.code,
      }
      if (families[1 - index] !== undefined) finish()
      else if (records.length > 0) grace = setTimeout(finish, familyGraceMs)
    }
  query.resolve4(name, { ttl: true }, settle(0))
  query.resolve6(name, { ttl: true }, settle(1))
  return promise
}

/** c-ares' words for "the servers answered, and there is nothing". */
const absent = new Set(['ENOTFOUND', 'ENODATA'])
const timedOut = new Set([undefined, 'ETIMEOUT'])

function answerOf(name: string, families: readonly [Family | undefined, Family | undefined]): Answer {
  const addresses = inTurn(families[0]?.addresses ?? [], families[1]?.addresses ?? []).slice(0, addressesMax)
  if (addresses.length > 0) {
    const ttlMs = Math.min(
      ttlMaxMs,
      Math.max(ttlMinMs, Math.min(families[0]?.ttlMs ?? Infinity, families[1]?.ttlMs ?? Infinity)),
    )
    return { resolution: { kind: 'resolved', addresses }, ttlMs }
  }
  const errors = families.map((family) => family?.error)
  if (errors.some((error) => timedOut.has(error))) {
    return {
      resolution: { kind: 'failed', code: 'dns_timeout', detail: `${name}: no answer from DNS` },
      ttlMs: failedTtlMs,
    }
  }
  const worst = errors.find((error) => error !== undefined && !absent.has(error)) ?? errors[0]
  return {
    resolution: { kind: 'failed', code: 'dns_failed', detail: `${name}: ${worst}` },
    ttlMs: absent.has(worst ?? '') ? absentTtlMs : failedTtlMs,
  }
}

/** IPv4 first: a network without working IPv6 is commoner than one without IPv4. */
function inTurn(ipv4: readonly string[], ipv6: readonly string[]): string[] {
  const addresses: string[] = []
  for (let i = 0; i < Math.max(ipv4.length, ipv6.length); i++) {
    for (const address of [ipv4[i], ipv6[i]]) if (address !== undefined) addresses.push(address)
  }
  return addresses
}
