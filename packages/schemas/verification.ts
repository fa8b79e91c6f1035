import { z } from 'zod'
import { durationBetween } from './duration.ts'
import { readPublicKey, readSharedKey, type PublicKeyForm, type SharedKeyForm } from './verification-key.ts'

/**
 * How a source proves who sent a request: one scheme and its secrets. Several secrets may be active at once while
 * one is rotated; any may match, the first is the current one. What each scheme checks stands in packages/verify;
 * here is only what an operator may write.
 */
export const secretsMax = 8
const secretCharsMax = 4_096

/** Schemes by what their secret looks like and whether the sender dates its signatures. */
const textSchemes = [
  'github',
  'bitbucket',
  'jira',
  'shopify',
  'twilio',
  'square',
  'razorpay',
  'coinbase-commerce',
  'gocardless',
  'line',
  'notion',
  'easypost',
  'stream-chat',
  'pusher',
  'hubspot-v1',
  'hubspot-v2',
  'mandrill',
  'intercom',
  'typeform',
  'x-twitter',
  'dropbox',
  'woocommerce',
  'vercel',
  'sentry',
  'docusign',
  'hookdeck',
  'xero',
  'pagerduty',
  'quickbooks',
  'paystack',
  'trello',
  'microsoft-graph',
] as const
const datedTextSchemes = [
  'stripe',
  'slack',
  'zoom',
  'paddle',
  'linear',
  'mux',
  'workos',
  'elevenlabs',
  'retell',
  'sanity',
  'box',
  'hubspot',
  'cloudinary',
  'zendesk',
  'calendly',
  'twitch',
  'webflow',
  'polar',
] as const
export const standardSchemes = [
  'standard-webhooks',
  'svix',
  'clerk',
  'resend',
  'openai',
  'replicate',
  'gitlab-signing',
] as const
const hexSchemes = ['adyen-banking'] as const
const base64Schemes = ['ms-teams-outgoing'] as const
export const ed25519Schemes = ['discord', 'telnyx'] as const
export const p256Schemes = ['sendgrid'] as const
const headerTokenSchemes = ['gitlab', 'telegram', 'flutterwave'] as const
const querySchemes = ['mailchimp', 'activecampaign'] as const
const otherSchemes = [
  'meta',
  'okta',
  'postmark',
  'basic',
  'bearer',
  'api-key',
  'query',
  'hmac',
  'ed25519',
  'none',
] as const

/** Every scheme's name, in the order of the alphabet. */
export const schemes = [
  ...textSchemes,
  ...datedTextSchemes,
  ...standardSchemes,
  ...hexSchemes,
  ...base64Schemes,
  ...ed25519Schemes,
  ...p256Schemes,
  ...headerTokenSchemes,
  ...querySchemes,
  ...otherSchemes,
].toSorted()
export type Scheme = (typeof schemes)[number]

const headerName = z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}$/, 'expected an HTTP header name')
/** The query parameter of the registered URL that holds the secret. */
const parameter = z
  .string()
  .regex(/^[A-Za-z0-9._~-]{1,200}$/, 'expected a query parameter name of letters, digits and . _ ~ -')
  .default('secret')
const tolerance = durationBetween('1s', '24h')
const secretText = z.string().min(1, 'expected a secret that is not empty').max(secretCharsMax)

const shared = (form: SharedKeyForm, expected: string) =>
  secretText.refine((secret) => secret === '' || readSharedKey(form, secret) !== undefined, `expected ${expected}`)
const published = (form: PublicKeyForm, expected: string) =>
  secretText.refine((key) => key === '' || readPublicKey(form, key) !== undefined, `expected ${expected}`)

const ed25519Key = published(
  'ed25519',
  'the sender’s ed25519 public key: 32 bytes in hex or base64, whpk_<base64>, or PEM; not one of small order',
)
const headerToken = secretText.regex(
  /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/,
  'expected printable ASCII: a header carries nothing else reliably',
)
const userAndPassword = secretText.regex(/^[^:]+:/, 'expected user:password')

/** `secret: x` is short for `secrets: [x]`; exactly one of the two is given (checked below, with the path that was written). */
const secretsOf = <T extends z.ZodType<string>>(one: T) => ({
  secret: one.optional(),
  secrets: z
    .array(one)
    .min(1, 'expected at least one secret')
    .max(secretsMax, `expected at most ${secretsMax} secrets`)
    .optional(),
})

/** Where to find a value for schemes that know no provider: a header, or a path into the JSON or form body (`data.id`, `items.*.id`). */
const fieldSelector = z.union(
  [z.strictObject({ header: headerName }), z.strictObject({ path: z.string().min(1).max(200) })],
  'expected { header: name } or { path: path.into.body }',
)
export type FieldSelector = z.output<typeof fieldSelector>
const selectors = { dedupe: fieldSelector.optional(), type: fieldSelector.optional() }

export const templateSlots = ['body', 'timestamp', 'id', 'url', 'method'] as const
export type TemplateSlot = (typeof templateSlots)[number]
export type TemplatePart<Slot extends string = TemplateSlot> = { literal: string } | { slot: Slot }

/** The parts of a template such as `{timestamp}.{body}`; undefined when a brace stands for no slot. */
export function templateParts<Slot extends string>(
  template: string,
  slots: readonly Slot[],
): TemplatePart<Slot>[] | undefined {
  const parts: TemplatePart<Slot>[] = []
  for (const piece of template.split(/(\{[^{}]*\})/)) {
    if (piece === '') continue
    const slot = slots.find((name) => piece === `{${name}}`)
    if (slot !== undefined) parts.push({ slot })
    else if (/[{}]/.test(piece)) return undefined
    else parts.push({ literal: piece })
  }
  return parts
}

const signatureSettings = {
  header: headerName,
  encoding: z.enum(['hex', 'base64', 'base64url']).default('hex'),
  /** What stands before the signature in its header, such as `sha256=`. */
  prefix: z.string().max(100).default(''),
  /** What is signed: text and {body} {timestamp} {id} {url} {method}. */
  signed: z.string().max(1_000).default('{body}'),
  timestamp: z
    .strictObject({
      header: headerName,
      format: z.enum(['seconds', 'milliseconds', 'rfc3339']).default('seconds'),
      tolerance: tolerance.default('5m'),
    })
    .optional(),
  idHeader: headerName.optional(),
  ...selectors,
}

/** A template that leaves out the body or the timestamp would verify requests that nobody signed. */
function checkTemplate(
  value: { signed: string; timestamp?: unknown; idHeader?: string | undefined },
  context: z.RefinementCtx,
) {
  const parts = templateParts(value.signed, templateSlots)
  const refuse = (message: string, path = 'signed') =>
    context.addIssue({ code: 'custom', path: [path], message, input: value.signed })
  if (!parts) return refuse(`expected text and the placeholders ${templateSlots.map((slot) => `{${slot}}`).join(' ')}`)
  const has = (slot: TemplateSlot) => parts.some((part) => 'slot' in part && part.slot === slot)
  if (!has('body')) refuse('expected {body}: without it any body would pass')
  if (has('timestamp') && value.timestamp === undefined)
    refuse('expected a timestamp header for {timestamp}', 'timestamp')
  if (!has('timestamp') && value.timestamp !== undefined)
    refuse('expected {timestamp}: an unsigned timestamp proves nothing')
  if (has('id') && value.idHeader === undefined) refuse('expected a header for {id}', 'idHeader')
  if (!has('id') && value.idHeader !== undefined) refuse('expected {id}: an unsigned id proves nothing')
  for (const [index, part] of parts.entries()) {
    const next = parts[index + 1]
    if ('slot' in part && part.slot === 'id' && next && !('literal' in next))
      refuse('expected text after {id}: without it the id can be cut elsewhere')
  }
}

const text = secretsOf(secretText)
const dated = { tolerance: tolerance.optional() }
const standardSecret = secretText.refine(
  (secret) =>
    secret === '' ||
    readSharedKey('standard', secret) !== undefined ||
    (secret.startsWith('whpk_') && readPublicKey('ed25519', secret) !== undefined),
  'expected whsec_<base64> (or the bare base64), or whpk_<base64> of an ed25519 public key',
)

const written = z.discriminatedUnion(
  'scheme',
  [
    z.strictObject({ scheme: z.enum(textSchemes), ...text }),
    z.strictObject({ scheme: z.enum(datedTextSchemes), ...text, ...dated }),
    z.strictObject({ scheme: z.enum(standardSchemes), ...secretsOf(standardSecret), ...dated }),
    z.strictObject({
      scheme: z.enum(hexSchemes),
      ...secretsOf(shared('hex', 'the key in hex, as the provider shows it')),
    }),
    z.strictObject({
      scheme: z.enum(base64Schemes),
      ...secretsOf(shared('base64', 'the key in base64, as the provider shows it')),
    }),
    z.strictObject({ scheme: z.enum(ed25519Schemes), ...secretsOf(ed25519Key), ...dated }),
    z.strictObject({
      scheme: z.enum(p256Schemes),
      ...secretsOf(published('p256', 'the sender’s P-256 public key: base64 of its SPKI DER, or PEM')),
      ...dated,
    }),
    /** `verifyToken` is what the provider repeats when it checks the URL; a secret of its own. */
    z.strictObject({ scheme: z.literal('meta'), ...text, verifyToken: secretText.optional() }),
    z.strictObject({ scheme: z.enum(headerTokenSchemes), ...secretsOf(headerToken) }),
    z.strictObject({
      scheme: z.literal('okta'),
      ...secretsOf(headerToken),
      header: headerName.default('Authorization'),
    }),
    z.strictObject({ scheme: z.literal('postmark'), ...secretsOf(userAndPassword) }),
    z.strictObject({ scheme: z.enum(querySchemes), ...text, parameter }),
    z.strictObject({ scheme: z.literal('basic'), ...secretsOf(userAndPassword), ...selectors }),
    z.strictObject({ scheme: z.literal('bearer'), ...secretsOf(headerToken), ...selectors }),
    z.strictObject({
      scheme: z.literal('api-key'),
      ...secretsOf(headerToken),
      header: headerName.default('X-API-Key'),
      ...selectors,
    }),
    z.strictObject({ scheme: z.literal('query'), ...text, parameter, ...selectors }),
    z
      .strictObject({
        scheme: z.literal('hmac'),
        ...text,
        algorithm: z.enum(['sha1', 'sha256', 'sha384', 'sha512']).default('sha256'),
        key: z.enum(['utf8', 'hex', 'base64']).default('utf8'),
        ...signatureSettings,
      })
      .superRefine(checkTemplate)
      .superRefine((value, context) => {
        for (const [index, secret] of (value.secrets ?? [value.secret ?? '']).entries())
          if (secret !== '' && readSharedKey(value.key, secret) === undefined)
            context.addIssue({
              code: 'custom',
              path: value.secrets ? ['secrets', index] : ['secret'],
              message: `expected the key in ${value.key}`,
              input: value.key,
            })
      }),
    z
      .strictObject({ scheme: z.literal('ed25519'), ...secretsOf(ed25519Key), ...signatureSettings })
      .superRefine(checkTemplate),
    z.strictObject({ scheme: z.literal('none'), ...selectors }),
  ],
  {
    error: (issue) =>
      issue.code === 'invalid_union' ? `expected one of the schemes ${schemes.join(', ')}` : undefined,
  },
)

type Normalised<T> = T extends { scheme: 'none' } ? T : Omit<T, 'secret' | 'secrets'> & { secrets: string[] }
type NormalisedOf<T> = T extends unknown ? Normalised<T> : never

/** A source's verification: strict, with `secret` turned into `secrets`. Parsing its own output changes nothing. */
export const verificationSchema = written.transform((value, context): NormalisedOf<z.output<typeof written>> => {
  if (value.scheme === 'none') return value
  const { secret, secrets, ...rest } = value
  if ((secret === undefined) === (secrets === undefined)) {
    const message =
      secret === undefined
        ? 'expected secret, or secrets while one is rotated'
        : 'expected either secret or secrets, not both'
    context.addIssue({ code: 'custom', path: ['secret'], message, input: undefined })
    return z.NEVER
  }
  return { ...rest, secrets: secrets ?? [secret ?? ''] }
})
export type Verification = z.output<typeof verificationSchema>
export type VerificationInput = z.input<typeof verificationSchema>

/** All that is secret in a verification: what the store encrypts, as one value. */
export type VerificationSecret = { secrets?: readonly string[]; verifyToken?: string }
type Open<T> = T extends unknown ? Omit<T, keyof VerificationSecret> : never
/** A verification without its secrets: may be shown, logged and stored in the clear. */
export type OpenVerification = Open<Verification>

/** Parts a verification into what may be shown and what must be encrypted. */
export function splitVerification(verification: Verification): { open: OpenVerification; secret: VerificationSecret } {
  if (verification.scheme === 'none') return { open: verification, secret: {} }
  if (verification.scheme === 'meta') {
    const { secrets, verifyToken, ...open } = verification
    return { open, secret: verifyToken === undefined ? { secrets } : { secrets, verifyToken } }
  }
  const { secrets, ...open } = verification
  return { open, secret: { secrets } }
}

/** The inverse of splitVerification, checked: throws a ZodError when the halves don't make a valid verification. */
export function joinVerification(open: unknown, secret: unknown): Verification {
  return verificationSchema.parse({ ...(open as object), ...(secret as object) })
}
