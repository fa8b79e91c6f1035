import { z } from 'zod'
import { durationBetween } from './duration.ts'
import { name } from './name.ts'
import { joinVerification, splitVerification, verificationSchema } from './verification.ts'

export const defaultBodyBytesMax = 1_048_576
/** The most a source may allow itself; ingest's total buffer is bounded apart from it. */
export const bodyBytesCeiling = 16 * 1_048_576

export const method = z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/**
 * What makes two requests the same event. `auto`: the provider's own id (see packages/verify); `none`: never;
 * `body`: equal bytes; a header or a path into the body otherwise. A request without the key is never a duplicate.
 */
export const dedupe = z.strictObject({
  by: z
    .union([
      z.enum(['auto', 'none', 'body']),
      z.strictObject({ header: z.string().min(1).max(200) }),
      z.strictObject({ path: z.string().min(1).max(200) }),
    ])
    .default('auto'),
  window: durationBetween('1s', '30d').default('72h'),
})

export const sourceSpec = z.strictObject({
  name,
  verification: verificationSchema,
  methods: z.array(method).min(1).default(['POST']),
  bodyBytesMax: z.int().min(1).max(bodyBytesCeiling).default(defaultBodyBytesMax),
  dedupe: dedupe.default({ by: 'auto', window: '72h' }),
  /** The answer to an accepted request; absent: what the scheme's provider expects, else 200 and the event's id. */
  response: z
    .strictObject({
      status: z.int().min(200).max(299).default(200),
      contentType: z
        .string()
        .regex(/^[\x20-\x7e]{1,200}$/, 'expected a media type in printable ASCII')
        .default('application/json'),
      body: z.string().max(16_384).optional(),
    })
    .optional(),
})
export type SourceSpec = z.output<typeof sourceSpec>
export type SourceInput = z.input<typeof sourceSpec>

/** Parts a source into what may be shown and the verification's secrets, which are encrypted at rest and never returned. */
export function splitSourceSecrets(spec: SourceSpec): { open: unknown; secret: unknown } {
  const { open, secret } = splitVerification(spec.verification)
  return { open: { ...spec, verification: open }, secret }
}

/** The inverse, to be parsed by `sourceSpec`. */
export function joinSourceSecrets(open: unknown, secret: unknown): unknown {
  const spec = open as { verification?: unknown }
  return { ...spec, verification: joinVerification(spec.verification, secret) }
}
