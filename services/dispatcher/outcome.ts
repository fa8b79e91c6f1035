import type { HeaderPairs } from '@tenterhook/schemas/headers'
import type { AddressCode } from './address-ranges.ts'
import type { UrlCode } from './guard.ts'

/**
 * What one try came to. The codes are stored with attempts: add, never rename.
 *
 * A "no" counts as soon as its status is read; a "yes" only when the response is whole (or longer than what is kept):
 * a destination that breaks off after "200" may have broken off its work.
 */
export type SendOutcome = Answered | Unreachable | Refused | Abandoned
/** The kinds that are written down as an attempt. */
export type AttemptOutcome = Exclude<SendOutcome, Abandoned>

export type Answered = {
  /** `delivered` for 2xx; `rejected` for all else, redirects included. */
  kind: 'delivered' | 'rejected'
  status: number
  /** As received, names and values read as latin1. */
  headers: HeaderPairs
  /** The bytes as received, compressed ones as well, up to `responseBytesMax`. */
  body: Buffer
  /** There was more of the body, or more to come. */
  truncated: boolean
  address: string
  timings: Timings
}

export type Unreachable = {
  kind: 'unreachable'
  code: UnreachableCode
  detail: string
  address?: string
  timings: Timings
}

export type UnreachableCode =
  | 'dns_failed'
  | 'dns_timeout'
  | 'connect_refused'
  | 'connect_timeout'
  | 'connect_failed'
  | 'tls_failed'
  /** The connection broke before the response was whole. */
  | 'reset'
  /** The whole attempt took too long. */
  | 'timeout'
  /** What came back is not a response in HTTP/1.1. */
  | 'protocol_error'
  /** We broke off a request that had begun: the process stops. */
  | 'aborted'

/** Nothing was sent, and we are the reason: the address, the URL or the request itself is not one to send. */
export type Refused = { kind: 'blocked'; code: RefusedCode; detail: string; timings: Timings }
export type RefusedCode =
  | AddressCode
  | UrlCode
  /** The forwarded path leaves the destination's (target-url.ts). */
  | 'path_refused'
  /** A method or header that can't be written in HTTP/1.1. */
  | 'request_invalid'

/** Nothing was sent, and the destination isn't the reason: no attempt to write down, the lease is given back. */
export type Abandoned = { kind: 'abandoned'; code: AbandonedCode; detail: string }
export type AbandonedCode =
  /** `beforeFirstByte` said no. */
  | 'lease_lapsed'
  /** No socket came free in time, or this machine has none left. */
  | 'no_socket'
  | 'aborted'
  /** The sender is closing. */
  | 'closing'

/** Milliseconds; a phase that was not reached, or not needed because the socket was open, is absent. */
export type Timings = ConnectTimings & {
  /** From the request going out to the first byte of the answer. */
  firstByteMs?: number
  /** The whole attempt, from having a socket or the right to open one. */
  totalMs: number
}

export type ConnectTimings = { dnsMs?: number; connectMs?: number; tlsMs?: number }
