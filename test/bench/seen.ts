/** The event numbers that came to one path, a bit each: a run of a million costs 128 KB a path, in place of tens of MB as a Set. */
export type Seen = {
  /** False when the number was there before. */
  add(number: number): boolean
}

const bytesAtFirst = 1_024

export function createSeen(): Seen {
  let bits = new Uint8Array(bytesAtFirst)
  return {
    add(number) {
      const at = number >> 3
      if (at >= bits.length) {
        const grown = new Uint8Array(Math.max(at + 1, bits.length * 2))
        grown.set(bits)
        bits = grown
      }
      const bit = 1 << (number & 7)
      const before = bits[at] ?? 0
      bits[at] = before | bit
      return (before & bit) === 0
    },
  }
}
