import type { Inbound } from './inbound.ts'
import type { SharedKey } from './key.ts'
import { equalSecrets } from './key.ts'
import { reject, type Answer, type Rejection } from './verdict.ts'

/**
 * How a provider checks that a URL is the operator's. `proven`: only a request that passed verification is answered;
 * else the provider doesn't sign it, and the answer must be worth nothing to anyone else. `answer` gives undefined
 * when the request is not this handshake.
 */
export interface Handshake {
  methods: readonly string[]
  proven: boolean
  answer(exchange: Exchange): Answer | Rejection | undefined
}

export interface Exchange {
  inbound: Inbound
  /** The secret that matched; before the proof, the current one. */
  key: SharedKey | undefined
  verifyToken: string | undefined
}

const echoCharsMax = 1_024

/** Slack: {"type":"url_verification","challenge":…}, signed like any event. */
export const slackChallenge: Handshake = {
  methods: ['POST'],
  proven: true,
  answer: ({ inbound }) =>
    sole(inbound.at('type')) === 'url_verification' ? echo(sole(inbound.at('challenge'))) : undefined,
}

/** Twitch EventSub: the message type names it, the body carries the challenge. */
export const twitchChallenge: Handshake = {
  methods: ['POST'],
  proven: true,
  answer: ({ inbound }) =>
    inbound.header('twitch-eventsub-message-type') === 'webhook_callback_verification'
      ? echo(sole(inbound.at('challenge')))
      : undefined,
}

/** Zoom: answer with an HMAC of plainToken. Its alphabet keeps the answer from being the signature of any event (`v0:…:{…}`). */
export const zoomValidation: Handshake = {
  methods: ['POST'],
  proven: true,
  answer({ inbound, key }) {
    if (sole(inbound.at('event')) !== 'endpoint.url_validation') return undefined
    const plainToken = sole(inbound.at('payload.plainToken'))
    if (!key || plainToken === undefined || !/^[A-Za-z0-9_-]{1,64}$/.test(plainToken))
      return malformed('payload.plainToken of letters, digits, _ and -')
    return json({ plainToken, encryptedToken: key.mac(plainToken).toString('hex') })
  },
}

/** Discord interactions: PING is type 1. Webhook events: PING is type 0, and type 1 is an event, told by its `event`. */
export const discordPing: Handshake = {
  methods: ['POST'],
  proven: true,
  answer({ inbound }) {
    const type = sole(inbound.at('type'))
    if (type === '0') return { status: 204, headers: [], body: '' }
    return type === '1' && inbound.at('event.type') === undefined ? json({ type: 1 }) : undefined
  },
}

/** Okta: a GET with the challenge in a header, and the same credential as its events. */
export const oktaVerification: Handshake = {
  methods: ['GET'],
  proven: true,
  answer({ inbound }) {
    const verification = inbound.header('x-okta-verification-challenge')
    return verification === undefined || verification.length > echoCharsMax
      ? malformed('an X-Okta-Verification-Challenge header')
      : json({ verification })
  },
}

/** Meta: the verify token is a secret of its own, apart from the app secret that signs events. */
export const metaChallenge: Handshake = {
  methods: ['GET'],
  proven: false,
  answer({ inbound, verifyToken }) {
    if (sole(inbound.query('hub.mode')) !== 'subscribe') return undefined
    const given = sole(inbound.query('hub.verify_token'))
    if (verifyToken === undefined || verifyToken === '')
      return reject('credential_mismatch', 'expected verifyToken to be set for this source')
    if (given === undefined || !equalSecrets(Buffer.from(given), Buffer.from(verifyToken)))
      return reject('credential_mismatch', 'expected hub.verify_token to be the verifyToken of this source')
    return echo(sole(inbound.query('hub.challenge')))
  },
}

/**
 * X's challenge-response check signs what anyone sends with the key and the form of its event signatures. So only
 * tokens are signed, and bodies that could be such a token are never accepted (`refusedBody` of its row).
 */
export const crcToken = /^[A-Za-z0-9+/=_-]{1,256}$/
export const xChallenge: Handshake = {
  methods: ['GET'],
  proven: false,
  answer({ inbound, key }) {
    const token = sole(inbound.query('crc_token'))
    if (!key || token === undefined || !crcToken.test(token))
      return malformed('a crc_token of at most 256 base64 characters')
    return json({ response_token: `sha256=${key.mac(token).toString('base64')}` })
  },
}

/** Dropbox: an unsigned GET with the challenge to repeat. */
export const dropboxChallenge: Handshake = {
  methods: ['GET'],
  proven: false,
  answer: ({ inbound }) => echo(sole(inbound.query('challenge'))),
}

/** Microsoft Graph: an unsigned POST with the token to repeat, decoded, when a subscription or its lifecycle URL is made. */
export const graphValidation: Handshake = {
  methods: ['POST'],
  proven: false,
  answer: ({ inbound }) =>
    inbound.query('validationToken').length > 0 ? echo(sole(inbound.query('validationToken'))) : undefined,
}

/** WooCommerce: a new webhook first posts `webhook_id=<n>`, unsigned, and is switched off unless the answer is 200. */
export const wooCommercePing: Handshake = {
  methods: ['POST'],
  proven: false,
  answer: ({ inbound }) =>
    inbound.header('x-wc-webhook-signature') === undefined &&
    /^webhook_id=\d{1,20}$/.test(inbound.body.subarray(0, 64).toString('latin1')) &&
    inbound.body.length <= 64
      ? empty()
      : undefined,
}

/** Trello, Mandrill: a HEAD request, to see that something answers. */
export const headProbe: Handshake = { methods: ['HEAD'], proven: false, answer: () => empty() }

/** Mailchimp: a GET to the URL with its secret. */
export const getProbe: Handshake = { methods: ['GET'], proven: true, answer: () => empty() }

function sole(values: readonly string[] | undefined): string | undefined {
  return values?.length === 1 ? values[0] : undefined
}

/** The challenge as plain text that no browser takes for a page: what is repeated here anyone may have sent. */
function echo(challenge: string | undefined): Answer | Rejection {
  if (challenge === undefined || challenge.length > echoCharsMax)
    return malformed(`one challenge of at most ${echoCharsMax} characters`)
  return {
    status: 200,
    headers: [
      ['content-type', 'text/plain; charset=utf-8'],
      ['x-content-type-options', 'nosniff'],
    ],
    body: challenge,
  }
}

function json(body: Readonly<Record<string, string | number>>): Answer {
  return {
    status: 200,
    headers: [
      ['content-type', 'application/json'],
      ['x-content-type-options', 'nosniff'],
    ],
    body: JSON.stringify(body),
  }
}

function empty(): Answer {
  return { status: 200, headers: [], body: '' }
}

function malformed(expected: string): Rejection {
  return reject('handshake_malformed', `expected ${expected}`)
}
