import { isIPv6 } from 'node:net'

/** Wrong tokens that one address may try at once, and how often it gets another try. */
const triesMax = 10
const tryEveryMs = 6_000
/** Beyond this many addresses the one that was seen longest ago is forgotten. */
const addressesMax = 10_000

/**
 * Bounds wrong tries per address. While an address has none left it is refused unheard, the right token too, or the
 * bound would be none. Sessions are not asked: nobody guesses a signature.
 */
export interface TryLimit {
  /** Milliseconds until the address may try again; 0 when it may now. */
  waitMs(address: string): number
  wrong(address: string): void
}

export function createTryLimit({ monotonicMs }: { monotonicMs: () => number }): TryLimit {
  const seen = new Map<string, { left: number; atMs: number }>()

  function leftOf(key: string): number {
    const entry = seen.get(key)
    return entry ? Math.min(triesMax, entry.left + (monotonicMs() - entry.atMs) / tryEveryMs) : triesMax
  }

  return {
    waitMs(address) {
      const left = leftOf(network(address))
      return left >= 1 ? 0 : Math.ceil((1 - left) * tryEveryMs)
    },
    wrong(address) {
      const key = network(address)
      const left = Math.max(0, leftOf(key) - 1)
      seen.delete(key)
      seen.set(key, { left, atMs: monotonicMs() })
      if (seen.size > addressesMax) for (const oldest of seen.keys()) return void seen.delete(oldest)
    },
  }
}

/** IPv4 whole, also when it is written as IPv6; of IPv6 the first 64 bits, which are one site's to hand out. */
function network(address: string): string {
  const bare = address.replace(/^::ffff:(?=\d+\.)/i, '')
  if (!isIPv6(bare)) return bare
  const [head = '', tail = ''] = bare.split('%', 1)[0]?.split('::') ?? []
  const front = head === '' ? [] : head.split(':')
  const back = tail === '' ? [] : tail.split(':')
  const groups = bare.includes('::')
    ? [...front, ...Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0'), ...back]
    : front
  return groups.slice(0, 4).join(':')
}
