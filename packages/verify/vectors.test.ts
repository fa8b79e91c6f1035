import { readFileSync } from 'node:fs'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { verificationSchema, type Verification } from '@tenterhook/schemas/verification'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { compileVerifier } from './verifier.ts'

const request = z.object({
  method: z.string(),
  url: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
  body_encoding: z.literal('base64').optional(),
})
const answer = z.object({
  status: z.union([z.int(), z.array(z.int())]),
  text: z.string().optional(),
  json: z.record(z.string(), z.unknown()).optional(),
  content_type: z.string().optional(),
  header: z.record(z.string(), z.string()).optional(),
})
const file = z
  .object({
    vectors: z.array(
      request.extend({
        id: z.string(),
        provider: z.string(),
        variant: z.string().optional(),
        ok: z.boolean(),
        secret: z.string().optional(),
        secrets: z.array(z.string()).optional(),
        now: z.int().optional(),
      }),
    ),
    handshakes: z.array(
      z.object({
        id: z.string(),
        provider: z.string(),
        secret: z.string().optional(),
        verify_token: z.string().optional(),
        now: z.int(),
        request,
        expect: answer,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('./vectors.json', import.meta.url), 'utf8')))

/** Providers with several ways of signing have a scheme for each. */
const schemes: Readonly<Record<string, string>> = {
  'gitlab token': 'gitlab',
  'gitlab signing-token': 'gitlab-signing',
  'adyen banking': 'adyen-banking',
  'hubspot v1': 'hubspot-v1',
  'hubspot v2': 'hubspot-v2',
  'hubspot v3': 'hubspot',
  'twilio form': 'twilio',
  'twilio json-bodySHA256': 'twilio',
  'standard-webhooks v1a-ed25519': 'standard-webhooks',
}
const schemeOf = (provider: string, variant?: string) =>
  variant === undefined ? provider : schemes[`${provider} ${variant}`]

function inbound({ method, url, headers, body, body_encoding }: z.output<typeof request>) {
  const pairs: HeaderPairs = Object.entries(headers)
  return { method, url, headers: pairs, body: Buffer.from(body, body_encoding ?? 'utf8') }
}

describe('test vectors', () => {
  it.each(file.vectors.map((vector) => [vector.id, vector] as const))('%s', (_id, vector) => {
    const { provider, variant, secret, secrets } = vector
    const parsed = verificationSchema.safeParse({
      scheme: schemeOf(provider, variant),
      ...(secrets ? { secrets } : { secret }),
    })
    // A secret that can't be configured can't verify anything; the engine behind the schema must not either.
    if (!parsed.success) {
      expect(vector.ok, z.prettifyError(parsed.error)).toBe(false)
      return
    }
    const verdict = compileVerifier(parsed.data).verify(inbound(vector), (vector.now ?? 1_760_000_000) * 1_000)
    expect(verdict.kind === 'verified', JSON.stringify(verdict)).toBe(vector.ok)
  })

  it('refuse empty secrets in the engine too, should one ever get past the schema', () => {
    const empty = file.vectors.filter((vector) => vector.id.endsWith('empty_secret_configured'))
    expect(empty.length).toBeGreaterThan(20)
    for (const vector of empty) {
      const verification = {
        scheme: schemeOf(vector.provider, vector.variant),
        secrets: [vector.secret ?? ''],
      } as Verification
      expect(
        compileVerifier(verification).verify(inbound(vector), (vector.now ?? 1_760_000_000) * 1_000),
        vector.id,
      ).toMatchObject({ kind: 'rejected', code: 'secret_unusable' })
    }
  })
})

describe('handshakes', () => {
  it.each(file.handshakes.map((handshake) => [handshake.id, handshake] as const))(
    '%s',
    (_id, { provider, secret, verify_token, now, request: sent, expect: wanted }) => {
      // Notion sends its secret in a first, unsigned request: a source without verification takes it in and shows it.
      const verification =
        provider === 'notion'
          ? { scheme: 'none' }
          : {
              scheme: provider,
              secret: secret ?? 'unused',
              ...(verify_token !== undefined && { verifyToken: verify_token }),
            }
      const verifier = compileVerifier(verificationSchema.parse(verification))
      const verdict = verifier.verify(inbound(sent), now * 1_000)
      const statuses = [wanted.status].flat()
      if (verdict.kind === 'handshake') {
        const { status, headers, body } = verdict.response
        const header = (name: string) => headers.find(([key]) => key === name.toLowerCase())?.[1]
        expect(statuses).toContain(status)
        if (wanted.text !== undefined) expect(body).toBe(wanted.text)
        if (wanted.json) expect(JSON.parse(body)).toEqual(wanted.json)
        if (wanted.content_type !== undefined)
          expect(header('content-type')).toMatch(new RegExp(`^${wanted.content_type}(;|$)`))
        for (const [name, value] of Object.entries(wanted.header ?? {})) expect(header(name)).toBe(value)
        expect([...verifier.handshakeMethods]).toContain(sent.method)
      } else if (verdict.kind === 'verified') {
        expect(statuses).toContain(verifier.acceptance?.status ?? 200)
        if (wanted.text !== undefined) expect(verifier.acceptance?.body).toBe(wanted.text)
      } else {
        expect(statuses, verdict.detail).toContain(401)
        if (wanted.text !== undefined) expect(verifier.refusal?.body).toBe(wanted.text)
      }
    },
  )
})
