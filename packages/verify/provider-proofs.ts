import type { Scheme } from '@tenterhook/schemas/verification'
import { crcToken } from './handshake.ts'
import { bodySigned, dated, fieldDated, fields, numbered, plain, standard } from './row-shapes.ts'
import type { CredentialRow, SignatureRow } from './row.ts'
import { hubspotUrls, twilioUrls } from './url-forms.ts'

/** Schemes with nothing to set but the secret; the rest are built from the operator's settings in scheme-row.ts. */
export type FixedProvider = Exclude<
  Scheme,
  'hmac' | 'ed25519' | 'none' | 'basic' | 'bearer' | 'api-key' | 'query' | 'okta' | 'mailchimp' | 'activecampaign'
>

/**
 * How each provider proves its webhooks. What a row rests on: X the provider's own SDK was run against the test
 * vectors; S its source was read; D its documentation; T third parties' code or guides; R memory only.
 * Tolerances are the SDK's or the documentation's; 300 s where there is none.
 */
export const proofs: Readonly<Record<FixedProvider, SignatureRow | CredentialRow>> = {
  // HMAC over the raw body.
  github: bodySigned('X-Hub-Signature-256', { layout: plain('sha256=') }), // X D
  bitbucket: bodySigned('X-Hub-Signature', { layout: plain('sha256=') }), // T
  jira: bodySigned('X-Hub-Signature', { layout: plain('sha256=') }), // T
  intercom: bodySigned('X-Hub-Signature', { algorithm: 'hmac-sha1', layout: plain('sha1=') }), // D
  meta: bodySigned('X-Hub-Signature-256', { layout: plain('sha256=') }), // D T
  shopify: bodySigned('X-Shopify-Hmac-Sha256', {
    encoding: 'base64',
    headers: [{ signature: ['X-Shopify-Hmac-Sha256'] }, { signature: ['shopify-hmac-sha256'] }],
  }), // X S
  razorpay: bodySigned('X-Razorpay-Signature'), // X S
  'coinbase-commerce': bodySigned('X-CC-Webhook-Signature'), // X S
  gocardless: bodySigned('Webhook-Signature'), // X S
  line: bodySigned('x-line-signature', { encoding: 'base64' }), // X S
  notion: bodySigned('X-Notion-Signature', { layout: plain('sha256=') }), // X S
  easypost: bodySigned('X-Hmac-Signature', { key: 'nfkd', layout: plain('hmac-sha256-hex=') }), // X S
  'stream-chat': bodySigned('X-Signature', { decompressed: true }), // X S
  pusher: bodySigned('X-Pusher-Signature'), // X S
  'adyen-banking': bodySigned('HmacSignature', { key: 'hex', encoding: 'base64', pinned: { Protocol: 'HmacSHA256' } }), // X S
  typeform: bodySigned('Typeform-Signature', { encoding: 'base64', layout: plain('sha256=') }), // D
  'x-twitter': bodySigned('x-twitter-webhooks-signature', {
    encoding: 'base64',
    layout: plain('sha256='),
    refusedBody: crcToken,
  }), // D T
  dropbox: bodySigned('X-Dropbox-Signature'), // D T
  woocommerce: bodySigned('X-WC-Webhook-Signature', { key: 'html', encoding: 'base64' }), // S
  vercel: bodySigned('x-vercel-signature', { algorithm: 'hmac-sha1' }), // D T
  sentry: bodySigned('Sentry-Hook-Signature'), // D; its timestamp header is not signed
  docusign: bodySigned(numbered('X-DocuSign-Signature-', 100), { encoding: 'base64' }), // D T; one header a key
  hookdeck: bodySigned(['x-hookdeck-signature', 'x-hookdeck-signature-2'], { encoding: 'base64' }), // D T; the second is the old key's
  xero: bodySigned('x-xero-signature', { encoding: 'base64' }), // D
  pagerduty: bodySigned('X-PagerDuty-Signature', { layout: fields('v1') }), // D
  'ms-teams-outgoing': bodySigned('Authorization', { key: 'base64', encoding: 'base64', layout: plain('HMAC ') }), // R
  quickbooks: bodySigned('intuit-signature', { encoding: 'base64' }), // R
  paystack: bodySigned('x-paystack-signature', { algorithm: 'hmac-sha512' }), // R
  linear: bodySigned('Linear-Signature', {
    timestamp: { from: { path: 'webhookTimestamp' }, unit: 'milliseconds', toleranceMs: 60_000 },
  }), // X S; dated by its signed body, its timestamp header is not signed

  // HMAC, or a plain keyed hash, over a template.
  slack: dated('X-Slack-Signature', 'X-Slack-Request-Timestamp', 'v0:{timestamp}:{body}', ['seconds', 300], {
    layout: plain('v0='),
  }), // X S
  zoom: dated('x-zm-signature', 'x-zm-request-timestamp', 'v0:{timestamp}:{body}', ['seconds', 300], {
    layout: plain('v0='),
  }), // X S
  zendesk: dated(
    'X-Zendesk-Webhook-Signature',
    'X-Zendesk-Webhook-Signature-Timestamp',
    '{timestamp}{body}',
    ['rfc3339', 300],
    { encoding: 'base64' },
  ), // D
  twitch: dated(
    'Twitch-Eventsub-Message-Signature',
    'Twitch-Eventsub-Message-Timestamp',
    '{id}{timestamp}{body}',
    ['rfc3339', 600],
    { layout: plain('sha256='), id: 'Twitch-Eventsub-Message-Id' },
  ), // T; tolerance R
  webflow: dated('x-webflow-signature', 'x-webflow-timestamp', '{timestamp}:{body}', ['milliseconds', 300]), // D
  box: dated(
    ['BOX-SIGNATURE-PRIMARY', 'BOX-SIGNATURE-SECONDARY'],
    'BOX-DELIVERY-TIMESTAMP',
    '{body}{timestamp}',
    ['rfc3339', 600],
    { encoding: 'base64', pinned: { 'BOX-SIGNATURE-VERSION': '1', 'BOX-SIGNATURE-ALGORITHM': 'HmacSHA256' } },
  ), // X S
  square: bodySigned('x-square-hmacsha256-signature', { encoding: 'base64', signed: '{url}{body}' }), // X S
  trello: bodySigned('X-Trello-Webhook', { algorithm: 'hmac-sha1', encoding: 'base64', signed: '{body}{url}' }), // R
  hubspot: dated(
    'X-HubSpot-Signature-v3',
    'X-HubSpot-Request-Timestamp',
    '{method}{url}{body}{timestamp}',
    ['milliseconds', 300],
    { encoding: 'base64', urls: hubspotUrls },
  ), // X S D
  'hubspot-v2': bodySigned('X-HubSpot-Signature', { algorithm: 'sha256', signed: '{secret}{method}{url}{body}' }), // X S
  'hubspot-v1': bodySigned('X-HubSpot-Signature', { algorithm: 'sha256', signed: '{secret}{body}' }), // X S
  cloudinary: dated('X-Cld-Signature', 'X-Cld-Timestamp', '{body}{timestamp}{secret}', ['seconds', 7_200], {
    algorithm: 'sha1',
  }), // X S

  // A signature header of fields, the timestamp among them.
  stripe: fieldDated('Stripe-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300]), // X S
  mux: fieldDated('Mux-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300]), // X S
  paddle: fieldDated('Paddle-Signature', fields('h1', 'ts', ';'), '{timestamp}:{body}', ['seconds', 5]), // X S
  calendly: fieldDated('Calendly-Webhook-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300]), // T
  workos: fieldDated('WorkOS-Signature', fields('v1', 't'), '{timestamp}.{body}', ['milliseconds', 180]), // X S
  elevenlabs: fieldDated('ElevenLabs-Signature', fields('v0', 't'), '{timestamp}.{body}', ['seconds', 1_800]), // X S
  retell: fieldDated('X-Retell-Signature', fields('d', 'v'), '{body}{timestamp}', ['milliseconds', 300]), // X S
  sanity: fieldDated('sanity-webhook-signature', fields('v1', 't'), '{timestamp}.{body}', ['milliseconds', 300], {
    encoding: 'base64url',
  }), // X S

  // Standard Webhooks and its dialects.
  'standard-webhooks': standard(['webhook']), // X S D
  svix: standard(['svix', 'webhook']), // X S
  clerk: standard(['svix', 'webhook']), // X S
  resend: standard(['svix', 'webhook']), // X S
  openai: standard(['webhook']), // X S
  replicate: standard(['webhook']), // X S
  polar: standard(['webhook'], { key: 'utf8' }), // X S; the secret's own bytes are the key
  'gitlab-signing': standard(['webhook']), // D

  // Public keys.
  discord: dated('X-Signature-Ed25519', 'X-Signature-Timestamp', '{timestamp}{body}', ['seconds', 300], {
    algorithm: 'ed25519',
    key: 'ed25519',
  }), // X S
  telnyx: dated('telnyx-signature-ed25519', 'telnyx-timestamp', '{timestamp}|{body}', ['seconds', 300], {
    algorithm: 'ed25519',
    key: 'ed25519',
    encoding: 'base64',
  }), // X S
  sendgrid: dated(
    'X-Twilio-Email-Event-Webhook-Signature',
    'X-Twilio-Email-Event-Webhook-Timestamp',
    '{timestamp}{body}',
    ['seconds', 300],
    { algorithm: 'ecdsa-sha256', key: 'p256', encoding: 'base64' },
  ), // X S

  // URL and sorted form parameters.
  twilio: bodySigned('X-Twilio-Signature', {
    algorithm: 'hmac-sha1',
    encoding: 'base64',
    signed: '{url}{form}',
    urls: twilioUrls,
    bodyHashParameter: 'bodySHA256',
  }), // X S
  mandrill: bodySigned('X-Mandrill-Signature', { algorithm: 'hmac-sha1', encoding: 'base64', signed: '{url}{form}' }), // D

  // A secret that is repeated; nothing of the body is covered.
  gitlab: { proof: 'credential', from: { header: 'X-Gitlab-Token' } }, // D T
  telegram: { proof: 'credential', from: { header: 'X-Telegram-Bot-Api-Secret-Token' } }, // R
  flutterwave: { proof: 'credential', from: { header: 'verif-hash' } }, // R
  postmark: { proof: 'credential', from: { basic: true } }, // D
  'microsoft-graph': { proof: 'credential', from: { everyItem: 'value.*.clientState' } }, // D
}
