/** Numbers that a seed decides: the same seed makes the same plan of faults and the same events. */
export type Random = {
  /** At least 0, less than 1. */
  next(): number
  /** A whole number from `min` to `max`, both included. */
  between(min: number, max: number): number
  pick<T>(choices: readonly [T, ...T[]]): T
  /** Of its own, told by a name: what one of them draws moves no other. */
  fork(name: string): Random
}

/** mulberry32 (https://gist.github.com/tommyettinger/46a874533244883189143505d203312c); the seed's lower 32 bits count. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    between: (min, max) => min + Math.floor(next() * (max - min + 1)),
    pick: (choices) => choices[Math.floor(next() * choices.length)] ?? choices[0],
    fork: (name) => seeded(derivedSeed(seed, name)),
  }
}

/** Of a round, or of a part of one: FNV-1a over the seed and the name. */
export function derivedSeed(seed: number, name: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(`${seed >>> 0} ${name}`)) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}
