import { suggest } from '@tenterhook/rules/suggestion'
import { headerValues, type HeaderPairs } from '@tenterhook/schemas/headers'
import type { Verification } from '@tenterhook/schemas/verification'
import type { Source } from '@tenterhook/store/config'
import { samples, type Sample } from '@tenterhook/verify/samples'
import { rowOf, toleranceMsOf } from '@tenterhook/verify/scheme-row'
import { signRequest } from '@tenterhook/verify/sign'
import { CommandError } from './command-error.ts'

/** What to send, and how it must go wrong: nothing, a signature by another secret, or one of long ago. */
export interface Wanted {
  /** `<provider>.<type>`. */
  name: string
  forgery: 'none' | 'bad-signature' | 'stale'
  data: Data | undefined
  /** Take the place of the sample's headers of the same names; signed with it where a scheme signs headers. */
  headers: HeaderPairs
}

/** `merged` goes into the sample's fields, `exact` takes its place byte for byte. */
export type Data = { kind: 'merged'; fields: Readonly<Record<string, unknown>> } | { kind: 'exact'; body: Buffer }

export interface SignedRequest {
  method: string
  url: string
  headers: HeaderPairs
  body: Buffer
}

/** The providers that are not called as their scheme is. */
const schemeOf: Readonly<Record<string, string>> = { standard: 'standard-webhooks' }
/** A stale request is this much older than the oldest that is accepted. */
const staleByMs = 60_000

export function providerOf(name: string): string {
  return name.split('.', 1)[0] ?? ''
}

/** The one that was named; else the one called like the provider; else the only one that verifies as it. */
export function chooseSource(sources: readonly Source[], name: string, given: string | undefined): Source {
  const names = sources.map(({ spec }) => spec.name)
  const there = names.length === 0 ? 'there is none' : `there are ${names.join(', ')}`
  const provider = providerOf(name)
  const wanted = sources.find(({ spec }) => spec.name === (given ?? provider))
  if (wanted) return wanted
  if (given !== undefined)
    throw new CommandError(
      'bad_argument',
      `there is no source ${JSON.stringify(given)}${suggest(given, names) || `; ${there}`}`,
    )
  const scheme = schemeOf[provider] ?? provider
  const alike = sources.filter(({ spec }) => spec.verification.scheme === scheme)
  const [only, ...others] = alike
  if (only && others.length === 0) return only
  const why = only
    ? `several sources verify as ${scheme}: ${alike.map(({ spec }) => spec.name).join(', ')}`
    : `no source is called ${provider} or verifies as ${scheme}; ${there}`
  throw new CommandError('bad_argument', `${why}; choose one with --source`)
}

/** The sample, or the data as a body of its own for a type that has none; unsigned. */
export function buildSample({ name, data, headers }: Wanted, id: string, nowMs: number): Sample {
  const build = Object.hasOwn(samples, name) ? samples[name] : undefined
  if (!build && !data) throw new CommandError('bad_argument', unknownSample(name))
  const sample = build?.({ id, nowMs }) ?? { headers: [], body: Buffer.alloc(0) }
  const { body, contentType } = withData(sample, data)
  const typed = contentType === undefined ? [] : [['Content-Type', contentType] as const]
  return { headers: replaceHeaders([...sample.headers, ...typed], headers), body }
}

/** Signs as the provider would, or as a forger. Throws a CommandError where the scheme leaves nothing to forge. */
export function signSample(
  { spec: { name, methods, verification } }: Source,
  sample: Sample,
  { origin, forgery, id, nowMs }: { origin: string; forgery: Wanted['forgery']; id: string; nowMs: number },
): SignedRequest {
  const method = methods.find((one) => one !== 'GET' && one !== 'HEAD')
  if (!method)
    throw new CommandError('bad_argument', `source ${name} takes only ${methods.join(', ')}, which have no body`)
  const signed = signRequest(forgery === 'bad-signature' ? withOtherSecret(verification, name) : verification, {
    method,
    url: `${origin}/in/${name}`,
    headers: sample.headers,
    body: sample.body,
    nowMs: forgery === 'stale' ? nowMs - toleranceMs(verification, name) - staleByMs : nowMs,
    id,
  })
  if (signed.kind === 'unsignable')
    throw new CommandError(
      'bad_argument',
      `${verification.scheme} is checked with a public key: only the provider can sign for source ${name}`,
    )
  return { method, url: signed.url, headers: signed.headers, body: signed.body }
}

/** What can be triggered, a line for each provider. */
export function sampleLines(): string[] {
  const byProvider = Map.groupBy(Object.keys(samples), providerOf)
  return [...byProvider].map(([provider, names]) => {
    const types = names.map((name) => name.slice(provider.length + 1))
    return `${provider}.  ${types.join('  ')}`
  })
}

function unknownSample(name: string): string {
  const names = Object.keys(samples)
  const provider = providerOf(name)
  const ofProvider = names.filter((one) => providerOf(one) === provider)
  const help = ofProvider.length > 0 ? `; there is ${ofProvider.join(', ')}` : '; `trigger --help` lists them'
  return `there is no sample ${JSON.stringify(name)}${suggest(name, names) || help} (or give a body with --data)`
}

function toleranceMs(verification: Verification, source: string): number {
  const row = rowOf(verification)
  if (row.proof !== 'signature' || !row.timestamp)
    throw new CommandError(
      'bad_argument',
      `${verification.scheme}, which source ${source} verifies by, has no timestamp that could be stale`,
    )
  return toleranceMsOf(verification) ?? row.timestamp.toleranceMs
}

function withOtherSecret(verification: Verification, source: string): Verification {
  if (verification.scheme === 'none')
    throw new CommandError('bad_argument', `source ${source} verifies nothing, so no signature is bad`)
  return { ...verification, secrets: verification.secrets.map(otherSecret) }
}

/** Another secret of the same form: prefix, length, hex or base64 stay what they are. */
export function otherSecret(secret: string): string {
  const middle = Math.floor(secret.length / 2)
  const offset = secret.slice(middle).search(/[A-Za-z0-9]/)
  if (offset === -1) return `${secret}x`
  const at = middle + offset
  return secret.slice(0, at) + otherChar(secret.charAt(at)) + secret.slice(at + 1)
}

/** A digit for a digit, `a` or `b` for a letter: still hex, still base64, still the same case. */
function otherChar(char: string): string {
  if (/\d/.test(char)) return String((Number(char) + 1) % 10)
  if (/[A-Z]/.test(char)) return char === 'A' ? 'B' : 'A'
  return char === 'a' ? 'b' : 'a'
}

function withData(sample: Sample, data: Data | undefined): { body: Buffer; contentType?: string } {
  const hasType = headerValues(sample.headers, 'content-type')[0]
  if (data === undefined) return { body: sample.body }
  if (data.kind === 'exact')
    return {
      body: data.body,
      ...(hasType === undefined && { contentType: isJson(data.body) ? 'application/json' : 'text/plain' }),
    }
  if (hasType === undefined) return { body: Buffer.from(JSON.stringify(data.fields)), contentType: 'application/json' }
  if (hasType.startsWith('application/x-www-form-urlencoded')) return { body: mergeForm(sample.body, data.fields) }
  if (!hasType.startsWith('application/json'))
    throw new CommandError(
      'bad_argument',
      `the sample is ${hasType}, which --data can't be merged into; give a whole body with --data @file`,
    )
  const fields = JSON.parse(sample.body.toString('utf8')) as unknown
  return { body: Buffer.from(JSON.stringify(merge(fields, data.fields))) }
}

/** Objects are merged at every depth; anything else is replaced. */
function merge(one: unknown, other: unknown): unknown {
  if (!isRecord(one) || !isRecord(other)) return other
  const merged: Record<string, unknown> = { ...one }
  for (const [key, value] of Object.entries(other)) merged[key] = merge(one[key], value)
  return merged
}

function mergeForm(body: Buffer, fields: Readonly<Record<string, unknown>>): Buffer {
  const form = new URLSearchParams(body.toString('utf8'))
  for (const [key, value] of Object.entries(fields))
    form.set(key, typeof value === 'string' ? value : JSON.stringify(value))
  return Buffer.from(form.toString())
}

function replaceHeaders(headers: HeaderPairs, own: HeaderPairs): HeaderPairs {
  const names = new Set(own.map(([name]) => name.toLowerCase()))
  return [...headers.filter(([name]) => !names.has(name.toLowerCase())), ...own]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isJson(body: Buffer): boolean {
  try {
    JSON.parse(body.toString('utf8'))
    return true
  } catch {
    return false
  }
}
