import { isIP } from 'node:net'
import { durationBetween, durationMs as millisecondsOf } from '@tenterhook/schemas/duration'
import { logLevels } from '@tenterhook/telemetry/log'
import { z } from 'zod'

/** The zod schemas of variables that several services read. Each message completes "NAME: …; found …". */

const durationUpTo24Days = durationBetween('0ms', '24d')

/** A text that `read` turns into a value; undefined from it, or no text at all, is reported as `expected …`. */
function variable<Value>(expected: string, read: (text: string) => Value | undefined) {
  return z.string(`expected ${expected}`).transform((text, context): Value => {
    const value = read(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `expected ${expected}` })
    return z.NEVER
  })
}

/** A whole number from `min` to `max`, both included. */
export function wholeNumber({ min, max }: { min: number; max: number }) {
  return variable(`a whole number from ${min} to ${max}`, (text) => {
    const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN
    return value >= min && value <= max ? value : undefined
  })
}

/** A TCP port; 0 lets the system choose one. */
export const port = wholeNumber({ min: 0, max: 65_535 })

/** Milliseconds, from a duration up to what a timer can hold: a longer one would go off at once. */
export const durationMs = variable('a duration such as 500ms, 15s, 2m or 24h, at most 24d', (text) =>
  durationUpTo24Days.safeParse(text).success ? millisecondsOf(text) : undefined,
)

/** Milliseconds, from a duration between two bounds, both included; a timer may not hold it. */
export function durationWithin(least: string, most: string) {
  const within = durationBetween(least, most)
  return variable(`a duration from ${least} to ${most}`, (text) =>
    within.safeParse(text).success ? millisecondsOf(text) : undefined,
  )
}

/** `true` or `false`, also as 1, 0, yes, no, on, off. */
export const flag = variable('true or false', (text) => {
  const word = text.toLowerCase()
  if (['true', '1', 'yes', 'on'].includes(word)) return true
  if (['false', '0', 'no', 'off'].includes(word)) return false
  return undefined
})

/** One of a few words, exactly as written. */
export function oneOf<const Word extends string>(words: readonly Word[]) {
  return variable(`one of ${words.join(', ')}`, (text) => words.find((word) => word === text))
}

export const logLevel = oneOf(logLevels)

/** A share from 0 to 1. */
export const ratio = variable('a number from 0 to 1', (text) => {
  const value = /^\d?(\.\d{1,15})?$/.test(text) ? Number(text) : Number.NaN
  return value >= 0 && value <= 1 ? value : undefined
})

/** An address to listen on: an IP address or a host name. */
export const host = variable('an IP address or host name to listen on', (text) =>
  isIP(text) > 0 || /^[A-Za-z\d]([A-Za-z\d.-]{0,251}[A-Za-z\d])?$/.test(text) ? text : undefined,
)

function url(expected: string, protocols: readonly string[]) {
  return variable(expected, (text) =>
    URL.canParse(text) && protocols.includes(new URL(text).protocol) ? text : undefined,
  )
}

export const databaseUrl = url('a URL such as postgres://user:password@host:5432/name', ['postgres:', 'postgresql:'])
export const redisUrl = url('a URL such as redis://host:6379', ['redis:', 'rediss:'])
export const httpUrl = url('a URL such as https://host', ['http:', 'https:'])

/** Address ranges, `10.0.0.0/8,::1/128`, each returned with its prefix length; a lone address is a range of one. */
export const cidrList = variable('address ranges such as 10.0.0.0/8,::1/128', (text) => {
  const ranges = text.split(',').map((range) => readCidr(range.trim()))
  return ranges.every((range) => range !== undefined) ? ranges : undefined
})

function readCidr(range: string): string | undefined {
  const [address = '', prefix, ...rest] = range.split('/')
  const version = isIP(address)
  if (version === 0 || rest.length > 0 || address.includes('%')) return undefined
  const bits = version === 4 ? 32 : 128
  if (prefix === undefined) return `${address}/${bits}`
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits ? `${address}/${Number(prefix)}` : undefined
}

/** A token that travels in an Authorization header. */
export const headerToken = variable('visible ASCII characters, without spaces', (text) =>
  /^[\x21-\x7e]+$/.test(text) ? text : undefined,
)

export type EncryptionKey = {
  /** Stands beside what it encrypted. */
  readonly id: string
  /** 32 bytes, for AES-256. */
  readonly key: Buffer
}

const keyBytes = 32

/** `k1:<base64 of 32 bytes>,k0:…`: the first key encrypts, the others still decrypt. At least one, ids all different. */
export const encryptionKeys = variable('keys such as k1:<base64 of 32 bytes>, the current one first', (text) => {
  const keys = text.split(',').map((entry) => readKey(entry.trim()))
  if (!keys.every((key) => key !== undefined)) return undefined
  return new Set(keys.map(({ id }) => id)).size === keys.length ? keys : undefined
})

function readKey(entry: string): EncryptionKey | undefined {
  const match = /^([A-Za-z\d_-]{1,32}):([A-Za-z\d+/]{43}=)$/.exec(entry)
  if (match === null) return undefined
  const [, id = '', base64 = ''] = match
  const key = Buffer.from(base64, 'base64')
  return key.length === keyBytes ? { id, key } : undefined
}
