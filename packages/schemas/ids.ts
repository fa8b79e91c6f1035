import { hash, randomUUID } from 'node:crypto'
import { z } from 'zod'

/**
 * Ids are `<prefix>_` + 26 characters of lower-case Crockford base32 over a UUIDv7 (RFC 9562 §5.7), so they
 * sort by the time they were made. 128 bits are padded with two zero bits in front: the first ten characters
 * are exactly the 48-bit millisecond timestamp, which is what the partitions of the store are cut by.
 */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
const timeChars = 10

declare const brand: unique symbol
export type Id<P extends string> = string & { readonly [brand]: P }
export type EventId = Id<'evt'>
export type DeliveryId = Id<'dlv'>
export type SourceId = Id<'src'>
export type DestinationId = Id<'dst'>
export type ConnectionId = Id<'con'>
export type RejectionId = Id<'rej'>
export type DuplicateId = Id<'dup'>

type Prefix = 'evt' | 'dlv' | 'src' | 'dst' | 'con' | 'rej' | 'dup'

const idSchema = <P extends Prefix>(prefix: P) =>
  z
    .string()
    .regex(
      new RegExp(`^${prefix}_[0-7][0-9a-hjkmnp-tv-z]{25}$`),
      `expected an id like ${prefix}_01k0… (26 characters after the prefix)`,
    )
    .transform((value) => value as Id<P>)

export const eventId = idSchema('evt')
export const deliveryId = idSchema('dlv')
export const sourceId = idSchema('src')
export const destinationId = idSchema('dst')
export const connectionId = idSchema('con')
export const duplicateId = idSchema('dup')

/** A new id made at `nowMs` (Unix milliseconds). `random` gives ten bytes; tests pass their own. */
export function newId<P extends Prefix>(prefix: P, nowMs: number, random: () => Buffer = tenRandomBytes): Id<P> {
  return encode(prefix, nowMs, random())
}

/** From a random UUID, of which Node keeps a supply: asking for ten bytes each time costs ten times as much. */
function tenRandomBytes(): Buffer {
  const uuid = randomUUID()
  // Without the groups that hold the UUID's own version and variant.
  return Buffer.from(uuid.slice(0, 8) + uuid.slice(24), 'hex')
}

/**
 * The id of the delivery of one event over one connection: the event's time and a hash of both, so that routing
 * twice, after a lost commit too, names the same delivery (I3). A replay passes its request key and its own time.
 */
export function deriveDeliveryId(
  event: EventId,
  connection: ConnectionId,
  replay?: { key: string; nowMs: number },
): DeliveryId {
  const tail = hash('sha256', `${event}\n${connection}\n${replay?.key ?? ''}`, 'buffer')
  return encode('dlv', replay?.nowMs ?? timeOfId(event), tail)
}

/** The millisecond an id was made at (for a derived delivery id: its event's). */
export function timeOfId(id: string): number {
  let time = 0
  const start = id.indexOf('_') + 1
  for (let i = start; i < start + timeChars; i++) time = time * 32 + alphabet.indexOf(id[i] ?? '0')
  return time
}

/** The lower bound of all ids with this prefix made at or after `ms`: the partitions' cuts and list cursors. */
export function lowestIdAt(prefix: Prefix, ms: number): string {
  return `${prefix}_${timePrefix(ms)}`
}

function timePrefix(ms: number): string {
  let chars = ''
  let rest = Math.max(0, Math.floor(ms))
  for (let i = 0; i < timeChars; i++) {
    chars = alphabet[rest % 32] + chars
    rest = Math.floor(rest / 32)
  }
  return chars
}

/** `tail`: at least ten bytes; version and variant bits are set over them as UUIDv7 asks. */
function encode<P extends Prefix>(prefix: P, ms: number, tail: Buffer): Id<P> {
  const byte = (at: number) => tail[at] ?? 0
  const first = fiveBytes(0x70 | (byte(0) & 0x0f), byte(1), 0x80 | (byte(2) & 0x3f), byte(3), byte(4))
  return `${prefix}_${timePrefix(ms)}${first}${fiveBytes(byte(5), byte(6), byte(7), byte(8), byte(9))}` as Id<P>
}

/** Forty bits as eight characters. */
function fiveBytes(a: number, b: number, c: number, d: number, e: number): string {
  const char = (bits: number) => alphabet[bits & 31] ?? ''
  return (
    char(a >> 3) +
    char((a << 2) | (b >> 6)) +
    char(b >> 1) +
    char((b << 4) | (c >> 4)) +
    char((c << 1) | (d >> 7)) +
    char(d >> 2) +
    char((d << 3) | (e >> 5)) +
    char(e)
  )
}
