import type { Verification } from '@tenterhook/schemas/verification'
import { compileCredential } from './credential.ts'
import { dedupeKeyOf, typeOf } from './event-fields.ts'
import type { Exchange, Handshake } from './handshake.ts'
import { readInbound, type Inbound, type InboundRequest } from './inbound.ts'
import type { FixedAnswer, Row } from './row.ts'
import { rowOf, toleranceMsOf } from './scheme-row.ts'
import { compileSignature, type Proven } from './signature.ts'
import type { Rejection, Verdict } from './verdict.ts'

/** A source's verification, ready to judge requests. Holds the secrets; keeps nothing between requests. */
export interface Verifier {
  /** Never throws, whatever the request; anything odd is rejected. `nowMs`: Unix milliseconds. */
  verify(request: InboundRequest, nowMs: number): Verdict
  /** What in a request is itself a credential (headers in lower case): redact it before storing, never forward it. */
  credentials: { headers: readonly string[]; query: readonly string[] }
  /** Methods besides the source's own that a handshake may use; with them only a handshake may come of a request. */
  handshakeMethods: readonly string[]
  /** The answer the provider expects on acceptance and on rejection; absent: the gateway's own. */
  acceptance?: FixedAnswer
  refusal?: FixedAnswer
}

/** Compile a verification once per version of its source. */
export function compileVerifier(verification: Verification): Verifier {
  const row = rowOf(verification)
  const { prove, currentKey, credentials } = compileProof(row, verification)
  const verifyToken = verification.scheme === 'meta' ? verification.verifyToken : undefined
  const handshakes = row.handshakes ?? []
  const before = handshakes.filter((handshake) => !handshake.proven)
  const after = handshakes.filter((handshake) => handshake.proven)
  return {
    verify(request, nowMs) {
      const inbound = readInbound(request)
      const early = before.length === 0 ? undefined : shakeHands(before, { inbound, key: currentKey, verifyToken })
      if (early) return early
      const proof = prove(inbound, nowMs)
      if (proof.kind === 'rejected') return proof
      const key = proof.key?.kind === 'shared' ? proof.key : undefined
      const late = after.length === 0 ? undefined : shakeHands(after, { inbound: proof.inbound, key, verifyToken })
      return late ?? accept(row, proof)
    },
    credentials,
    handshakeMethods: [...new Set(handshakes.flatMap((handshake) => handshake.methods))],
    ...(row.acceptance && { acceptance: row.acceptance }),
    ...(row.refusal && { refusal: row.refusal }),
  }
}

interface Proof {
  prove(inbound: Inbound, nowMs: number): Proven | Rejection
  currentKey: Exchange['key']
  credentials: Verifier['credentials']
}

function compileProof(row: Row, verification: Verification): Proof {
  const secrets = verification.scheme === 'none' ? [] : verification.secrets
  const headers = row.credentials?.headers ?? []
  const query = row.credentials?.query ?? []
  switch (row.proof) {
    case 'none':
      return {
        prove: (inbound) => ({ kind: 'proven', inbound }),
        currentKey: undefined,
        credentials: { headers, query },
      }
    case 'credential': {
      const check = compileCredential(row, secrets)
      return {
        prove: (inbound) => check.refuse(inbound) ?? { kind: 'proven', inbound },
        currentKey: undefined,
        credentials: { headers: [...check.headers, ...headers], query: [...check.query, ...query] },
      }
    }
    case 'signature': {
      const { prove, keys } = compileSignature(row, secrets, toleranceMsOf(verification))
      const [current] = keys
      return { prove, currentKey: current?.kind === 'shared' ? current : undefined, credentials: { headers, query } }
    }
  }
}

function shakeHands(handshakes: readonly Handshake[], exchange: Exchange): Verdict | undefined {
  for (const handshake of handshakes) {
    if (!handshake.methods.includes(exchange.inbound.method)) continue
    const answer = handshake.answer(exchange)
    if (answer) return 'kind' in answer ? answer : { kind: 'handshake', response: answer }
  }
  return undefined
}

function accept(row: Row, { inbound, id }: Proven): Verdict {
  const origin = { inbound, signedId: id }
  const dedupeKey = dedupeKeyOf(row.dedupe ?? [], origin)
  const type = typeOf(row.type ?? [], origin)
  return { kind: 'verified', ...(dedupeKey !== undefined && { dedupeKey }), ...(type !== undefined && { type }) }
}
