import { z } from 'zod'
import { durationBetween } from './duration.ts'
import { name } from './name.ts'
import { readSigningKey } from './signing-key.ts'

const headerName = z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}$/, 'expected an HTTP header name')
const headerValue = z
  .string()
  .max(8_192)
  .regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'expected an HTTP header value without line breaks')

/** Authorization, Cookie, X-API-Key, X-Auth-Token, Client-Secret … */
const credentialHeader = /^(proxy-)?authorization$|^cookie$|(^|[-_])(api[-_]?key|token|secret|password)$/i

export const destinationAuth = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('basic'), username: z.string().max(1_000), password: z.string().min(1).max(8_192) }),
  z.strictObject({ kind: z.literal('bearer'), token: headerValue.min(1) }),
  z.strictObject({ kind: z.literal('header'), name: headerName, value: headerValue.min(1) }),
])

/** Standard Webhooks signing; several secrets while one is rotated: each signs, the receiver accepts any. */
export const destinationSigning = z.strictObject({
  secrets: z
    .array(
      z.string().superRefine((secret, context) => {
        const read = readSigningKey(secret)
        if (read.kind === 'invalid') context.addIssue({ code: 'custom', message: read.expected })
      }),
    )
    .min(1)
    .max(5),
})

/** Higher than any destination means; a rate that is never reached is no limit. */
export const limitsMax = { perSecond: 10_000, perMinute: 600_000, perHour: 36_000_000, concurrency: 2_000 } as const

const limit = (most: number) => {
  const expected = `expected a whole number from 1 to ${most}`
  return z.int(expected).min(1, expected).max(most, expected).optional()
}

/** What a destination takes: attempts begun in any second, minute and hour, and at once. All that are set hold together. */
export const destinationLimits = z
  .strictObject({
    perSecond: limit(limitsMax.perSecond),
    perMinute: limit(limitsMax.perMinute),
    perHour: limit(limitsMax.perHour),
    concurrency: limit(limitsMax.concurrency),
  })
  .refine((limits) => Object.values(limits).some((value) => value !== undefined), {
    message: 'expected at least one of perSecond, perMinute, perHour, concurrency',
  })

export const destinationSpec = z.strictObject({
  name,
  url: z
    .url({ protocol: /^https?$/, error: 'expected an http or https URL' })
    .refine((url) => !URL.canParse(url) || (new URL(url).username === '' && new URL(url).password === ''), {
      message: 'expected a URL without user and password; use auth',
    }),
  method: z.enum(['POST', 'PUT', 'PATCH', 'GET', 'DELETE']).default('POST'),
  headers: z
    .record(headerName, headerValue)
    .refine((headers) => Object.keys(headers).length <= 50, 'expected at most 50 headers')
    // Headers are stored and shown as they are: what proves who we are belongs under auth, which is encrypted.
    .refine((headers) => !Object.keys(headers).some((header) => credentialHeader.test(header)), {
      message:
        'expected no credentials here: put Authorization, API keys and tokens under auth, where they are encrypted',
    })
    .default({}),
  /** The whole attempt, the response body included. */
  timeout: durationBetween('100ms', '60s').default('15s'),
  auth: destinationAuth.default({ kind: 'none' }),
  signing: destinationSigning.optional(),
  /** The operator's customer that owns it: tenants share the machine evenly, however many destinations each has. */
  tenant: name.optional(),
  limits: destinationLimits.optional(),
  /** Append what follows `/in/<source>` and the query to the URL. */
  forwardPath: z.boolean().default(false),
})
export type DestinationSpec = z.output<typeof destinationSpec>
export type DestinationInput = z.input<typeof destinationSpec>

/** What of a destination must be encrypted at rest and never returned. */
export interface DestinationSecrets {
  auth?: string
  signing?: string[]
}

/** Parts a destination into what may be shown and what may not; `secret` is undefined when there is none. */
export function splitDestinationSecrets(spec: DestinationSpec): {
  open: Omit<DestinationSpec, 'auth' | 'signing'> & { auth: object; signing?: object }
  secret: DestinationSecrets | undefined
} {
  const { auth, signing, ...rest } = spec
  const secret: DestinationSecrets = {}
  let openAuth: object = auth
  if (auth.kind === 'basic') {
    const { password, ...open } = auth
    secret.auth = password
    openAuth = open
  } else if (auth.kind === 'bearer') {
    secret.auth = auth.token
    openAuth = { kind: auth.kind }
  } else if (auth.kind === 'header') {
    const { value, ...open } = auth
    secret.auth = value
    openAuth = open
  }
  if (signing) secret.signing = signing.secrets
  return {
    open: { ...rest, auth: openAuth, ...(signing && { signing: {} }) },
    secret: secret.auth === undefined && secret.signing === undefined ? undefined : secret,
  }
}

/** The inverse, to be parsed by `destinationSpec`. */
export function joinDestinationSecrets(open: unknown, secret: unknown): unknown {
  const spec = open as { auth?: { kind?: string }; signing?: object }
  const secrets = (secret ?? {}) as DestinationSecrets
  const secretName = { basic: 'password', bearer: 'token', header: 'value' }[spec.auth?.kind ?? '']
  return {
    ...spec,
    ...(secretName && { auth: { ...spec.auth, [secretName]: secrets.auth } }),
    ...(spec.signing && { signing: { secrets: secrets.signing } }),
  }
}
