import type { Inbound } from './inbound.ts'
import { decodeStrictly, equalSecrets } from './key.ts'
import type { CredentialRow } from './row.ts'
import { reject, type Rejection } from './verdict.ts'

/** Checks a repeated secret. `headers` and `query` name what holds it: to be redacted before storing, never forwarded. */
export interface CredentialCheck {
  headers: readonly string[]
  query: readonly string[]
  /** undefined: proven. */
  refuse(inbound: Inbound): Rejection | undefined
}

export function compileCredential({ from }: CredentialRow, configured: readonly string[]): CredentialCheck {
  const secrets = configured.filter((secret) => secret !== '').map((secret) => Buffer.from(secret, 'utf8'))
  // Every secret is compared, so that the time doesn't tell which one was near.
  const isKnown = (given: Buffer) => secrets.reduce((known, secret) => equalSecrets(given, secret) || known, false)
  const judge = (given: Buffer, where: string) =>
    isKnown(given) ? undefined : reject('credential_mismatch', `no configured secret is the one in ${where}`)
  const header = headerOf(from)
  return {
    headers: header === undefined ? [] : [header.toLowerCase()],
    query: 'parameter' in from ? [from.parameter] : [],
    refuse(inbound) {
      if (secrets.length === 0) return reject('secret_unusable', 'none of the configured secrets can be used')
      if ('everyItem' in from) {
        const given = inbound.at(from.everyItem)
        if (!given)
          return reject('credential_missing', `expected every item to carry ${from.everyItem}, and at least one item`)
        return given
          .map((one) => judge(Buffer.from(one, 'utf8'), from.everyItem))
          .find((refusal) => refusal !== undefined)
      }
      if ('parameter' in from) {
        const given = inbound.query(from.parameter)
        if (given.length !== 1)
          return reject(
            given.length === 0 ? 'credential_missing' : 'credential_malformed',
            `expected the query parameter ${from.parameter} once`,
          )
        return judge(Buffer.from(given[0] ?? '', 'utf8'), `the query parameter ${from.parameter}`)
      }
      const name = header ?? ''
      const value = inbound.header(name.toLowerCase())
      if (value === undefined)
        return inbound.isRepeated(name.toLowerCase())
          ? reject('credential_malformed', `expected ${name} once, it came more than once`)
          : reject('credential_missing', `expected a ${name} header`)
      if ('header' in from) return judge(Buffer.from(value, 'utf8'), name)
      const wanted = 'basic' in from ? 'basic' : 'bearer'
      // The scheme's case is free (RFC 9110 §11.1), the credential's is not.
      const [, scheme = '', token = ''] = /^(\S+) +(\S.*)$/.exec(value) ?? []
      if (scheme.toLowerCase() !== wanted)
        return reject(
          'credential_malformed',
          `expected Authorization: ${wanted === 'basic' ? 'Basic <base64>' : 'Bearer <token>'}`,
        )
      if (wanted === 'bearer') return judge(Buffer.from(token, 'utf8'), name)
      // user:password is compared whole: splitting it at every colon is how passwords with colons break.
      const pair = decodeStrictly(token, 'base64')
      return pair ? judge(pair, name) : reject('credential_malformed', 'expected Authorization: Basic <base64>')
    },
  }
}

function headerOf(from: CredentialRow['from']): string | undefined {
  if ('header' in from) return from.header
  return 'basic' in from || 'bearer' in from ? 'Authorization' : undefined
}
