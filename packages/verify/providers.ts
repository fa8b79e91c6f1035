import type { Scheme } from '@tenterhook/schemas/verification'
import {
  crcToken, discordPing, dropboxChallenge, graphValidation, headProbe, metaChallenge, slackChallenge, twitchChallenge,
  wooCommercePing, xChallenge, zoomValidation,
} from './handshake.ts'
import { bodyHash, bodySigned, dated, fieldDated, fields, header, path, plain, signedId, standard, text } from './row-shapes.ts'
import type { FixedAnswer, Row } from './row.ts'
import { hubspotUrls, twilioUrls } from './url-forms.ts'

/**
 * How each provider proves its webhooks. The letters say what a row rests on: X the provider's own SDK was run
 * against the test vectors; S its source was read; D its documentation; T third parties' code or guides; R memory
 * only. Tolerances are the SDKs' or the documentation's; 300 s where there is none.
 *
 * Dedupe keys: an id inside the signed content where there is one. Ids from unsigned headers are marked `!`: whoever
 * can replay a captured request can mint fresh ones. Without an id the body's hash serves where a timestamp in it
 * keeps two real events apart; otherwise there is no key, because a duplicate costs less than a lost event.
 */
export type Provider = Exclude<Scheme, 'hmac' | 'ed25519' | 'none' | 'basic' | 'bearer' | 'api-key' | 'query' | 'okta' | 'mailchimp' | 'activecampaign'>

const emptyOk: FixedAnswer = { status: 200, contentType: 'text/plain; charset=utf-8', body: '' }
const twiml: FixedAnswer = { status: 200, contentType: 'text/xml; charset=utf-8', body: '<?xml version="1.0" encoding="UTF-8"?><Response></Response>' }
const numbered = (prefix: string, count: number): [string, ...string[]] => [`${prefix}1`, ...Array.from({ length: count - 1 }, (_, i) => `${prefix}${i + 2}`)]

export const providers: Readonly<Record<Provider, Row>> = {
  // HMAC over the raw body: one header.
  github: bodySigned('X-Hub-Signature-256', { layout: plain('sha256='), dedupe: [[header('X-GitHub-Delivery')]], type: [[header('X-GitHub-Event')]] }), // X D; dedupe !
  bitbucket: bodySigned('X-Hub-Signature', { layout: plain('sha256='), dedupe: [[header('X-Request-UUID')]], type: [[header('X-Event-Key')]] }), // T; dedupe ! R
  jira: bodySigned('X-Hub-Signature', { layout: plain('sha256='), dedupe: [[header('X-Atlassian-Webhook-Identifier')]], type: [[path('webhookEvent')]] }), // T; dedupe !
  intercom: bodySigned('X-Hub-Signature', { algorithm: 'hmac-sha1', layout: plain('sha1='), dedupe: [[path('id')]], type: [[path('topic')]] }), // D
  meta: bodySigned('X-Hub-Signature-256', { layout: plain('sha256='), dedupe: bodyHash, type: [[path('object'), path('entry.*.changes.*.field')], [path('object')]], handshakes: [metaChallenge], credentials: { query: ['hub.verify_token'] } }), // D T
  shopify: bodySigned('X-Shopify-Hmac-Sha256', {
    encoding: 'base64',
    headers: [{ signature: ['X-Shopify-Hmac-Sha256'] }, { signature: ['shopify-hmac-sha256'] }],
    dedupe: [[header('X-Shopify-Webhook-Id')], [header('shopify-webhook-id')]],
    type: [[header('X-Shopify-Topic')], [header('shopify-topic')]],
  }), // X S; dedupe !
  razorpay: bodySigned('X-Razorpay-Signature', { dedupe: [[header('x-razorpay-event-id')]], type: [[path('event')]] }), // X S; dedupe ! T
  'coinbase-commerce': bodySigned('X-CC-Webhook-Signature', { dedupe: [[path('event.id')]], type: [[path('event.type')]] }), // X S
  gocardless: bodySigned('Webhook-Signature', { dedupe: [[path('events.*.id')]], type: [[path('events.*.resource_type'), path('events.*.action')]] }), // X S
  line: bodySigned('x-line-signature', { encoding: 'base64', dedupe: [[path('events.*.webhookEventId')]], type: [[path('events.*.type')]] }), // X S
  notion: bodySigned('X-Notion-Signature', { layout: plain('sha256='), dedupe: [[path('id')]], type: [[path('type')]] }), // X S
  easypost: bodySigned('X-Hmac-Signature', { key: 'nfkd', layout: plain('hmac-sha256-hex='), dedupe: [[path('id')]], type: [[path('description')]] }), // X S
  'stream-chat': bodySigned('X-Signature', { decompressed: true, dedupe: [[header('X-Webhook-Id')]], type: [[path('type')]] }), // X S; dedupe !
  pusher: bodySigned('X-Pusher-Signature', { dedupe: bodyHash, type: [[path('events.*.name')]] }), // X S
  'adyen-banking': bodySigned('HmacSignature', { key: 'hex', encoding: 'base64', pinned: { Protocol: 'HmacSHA256' }, dedupe: bodyHash, type: [[path('type')]] }), // X S
  typeform: bodySigned('Typeform-Signature', { encoding: 'base64', layout: plain('sha256='), dedupe: [[path('event_id')]], type: [[path('event_type')]] }), // D
  'x-twitter': bodySigned('x-twitter-webhooks-signature', { encoding: 'base64', layout: plain('sha256='), refusedBody: crcToken, dedupe: bodyHash, handshakes: [xChallenge] }), // D T
  dropbox: bodySigned('X-Dropbox-Signature', { handshakes: [dropboxChallenge] }), // D T; names accounts that changed, not events
  woocommerce: bodySigned('X-WC-Webhook-Signature', {
    key: 'html',
    encoding: 'base64',
    // The delivery id is a hash of webhook and second: two events of one second share it.
    dedupe: [[header('X-WC-Webhook-Delivery-ID'), 'bodyHash']],
    type: [[header('X-WC-Webhook-Topic')]],
    handshakes: [wooCommercePing],
  }), // S; dedupe !
  vercel: bodySigned('x-vercel-signature', { algorithm: 'hmac-sha1', dedupe: [[path('id')]], type: [[path('type')]] }), // D T
  sentry: bodySigned('Sentry-Hook-Signature', { dedupe: [[header('Request-ID')]], type: [[header('Sentry-Hook-Resource'), path('action')]] }), // D; dedupe !
  docusign: bodySigned(numbered('X-DocuSign-Signature-', 100), { encoding: 'base64', dedupe: [[path('data.envelopeId'), path('event'), path('generatedDateTime')]], type: [[path('event')]] }), // D T
  hookdeck: bodySigned(['x-hookdeck-signature', 'x-hookdeck-signature-2'], { encoding: 'base64', dedupe: [[header('x-hookdeck-eventid')]] }), // D T; dedupe !
  xero: bodySigned('x-xero-signature', {
    encoding: 'base64',
    dedupe: [[path('events.*.resourceId'), path('events.*.eventDateUtc')]],
    type: [[path('events.*.eventCategory'), path('events.*.eventType')]],
    // "Intent to receive" tries good and bad signatures and wants both answered with an empty body.
    acceptance: emptyOk,
    refusal: { ...emptyOk, status: 401 },
  }), // D
  pagerduty: bodySigned('X-PagerDuty-Signature', { layout: fields('v1'), dedupe: [[path('event.id')]], type: [[path('event.event_type')]] }), // D
  'ms-teams-outgoing': bodySigned('Authorization', { key: 'base64', encoding: 'base64', layout: plain('HMAC '), dedupe: [[path('id')]], type: [[path('type')]] }), // R
  quickbooks: bodySigned('intuit-signature', { encoding: 'base64', dedupe: bodyHash }), // R
  paystack: bodySigned('x-paystack-signature', { algorithm: 'hmac-sha512', dedupe: bodyHash, type: [[path('event')]] }), // R
  linear: bodySigned('Linear-Signature', {
    // In the signed body; the Linear-Timestamp header is not signed.
    timestamp: { from: { path: 'webhookTimestamp' }, unit: 'milliseconds', toleranceMs: 60_000 },
    dedupe: [[header('Linear-Delivery')], ['bodyHash']],
    type: [[path('type'), path('action')]],
  }), // X S; dedupe !

  // HMAC over a template.
  slack: dated({ signature: 'X-Slack-Signature', timestamp: 'X-Slack-Request-Timestamp' }, 'v0:{timestamp}:{body}', ['seconds', 300], {
    layout: plain('v0='),
    dedupe: [[path('event_id')], [path('trigger_id')], [path('payload.trigger_id')]],
    type: [[path('event.type')], [path('command')], [path('payload.type')], [path('type')]],
    handshakes: [slackChallenge],
    // What a command is answered with is shown to the person who typed it.
    acceptance: emptyOk,
  }), // X S
  zoom: dated({ signature: 'x-zm-signature', timestamp: 'x-zm-request-timestamp' }, 'v0:{timestamp}:{body}', ['seconds', 300], {
    layout: plain('v0='), dedupe: bodyHash, type: [[path('event')]], handshakes: [zoomValidation],
  }), // X S
  zendesk: dated({ signature: 'X-Zendesk-Webhook-Signature', timestamp: 'X-Zendesk-Webhook-Signature-Timestamp' }, '{timestamp}{body}', ['rfc3339', 300], {
    encoding: 'base64', dedupe: [[header('X-Zendesk-Webhook-Invocation-Id')]], type: [[path('type')]],
  }), // D; dedupe !
  twitch: dated({ signature: 'Twitch-Eventsub-Message-Signature', timestamp: 'Twitch-Eventsub-Message-Timestamp', id: 'Twitch-Eventsub-Message-Id' }, '{id}{timestamp}{body}', ['rfc3339', 600], {
    layout: plain('sha256='), dedupe: signedId, type: [[header('Twitch-Eventsub-Subscription-Type')]], handshakes: [twitchChallenge],
  }), // T; tolerance R
  webflow: dated({ signature: 'x-webflow-signature', timestamp: 'x-webflow-timestamp' }, '{timestamp}:{body}', ['milliseconds', 300], { dedupe: bodyHash, type: [[path('triggerType')]] }), // D
  box: dated({ signature: ['BOX-SIGNATURE-PRIMARY', 'BOX-SIGNATURE-SECONDARY'], timestamp: 'BOX-DELIVERY-TIMESTAMP' }, '{body}{timestamp}', ['rfc3339', 600], {
    encoding: 'base64', pinned: { 'BOX-SIGNATURE-VERSION': '1', 'BOX-SIGNATURE-ALGORITHM': 'HmacSHA256' }, dedupe: [[path('id')]], type: [[path('trigger')]],
  }), // X S
  square: bodySigned('x-square-hmacsha256-signature', { encoding: 'base64', signed: '{url}{body}', dedupe: [[path('event_id')]], type: [[path('type')]] }), // X S
  trello: bodySigned('X-Trello-Webhook', { algorithm: 'hmac-sha1', encoding: 'base64', signed: '{body}{url}', dedupe: [[path('action.id')]], type: [[path('action.type')]], handshakes: [headProbe] }), // R
  hubspot: dated({ signature: 'X-HubSpot-Signature-v3', timestamp: 'X-HubSpot-Request-Timestamp' }, '{method}{url}{body}{timestamp}', ['milliseconds', 300], { encoding: 'base64', urls: hubspotUrls, ...hubspotEvents() }), // X S D
  'hubspot-v2': bodySigned('X-HubSpot-Signature', { algorithm: 'sha256', signed: '{secret}{method}{url}{body}', ...hubspotEvents() }), // X S
  'hubspot-v1': bodySigned('X-HubSpot-Signature', { algorithm: 'sha256', signed: '{secret}{body}', ...hubspotEvents() }), // X S
  cloudinary: dated({ signature: 'X-Cld-Signature', timestamp: 'X-Cld-Timestamp' }, '{body}{timestamp}{secret}', ['seconds', 7_200], { algorithm: 'sha1', dedupe: bodyHash, type: [[path('notification_type')]] }), // X S

  // A signature header of fields, the timestamp among them.
  stripe: fieldDated('Stripe-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300], { dedupe: [[path('id')]], type: [[path('type')]] }), // X S
  mux: fieldDated('Mux-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300], { dedupe: [[path('id')]], type: [[path('type')]] }), // X S
  paddle: fieldDated('Paddle-Signature', fields('h1', 'ts', ';'), '{timestamp}:{body}', ['seconds', 5], { dedupe: [[path('event_id')]], type: [[path('event_type')]] }), // X S
  calendly: fieldDated('Calendly-Webhook-Signature', fields('v1', 't'), '{timestamp}.{body}', ['seconds', 300], { dedupe: bodyHash, type: [[path('event')]] }), // T
  workos: fieldDated('WorkOS-Signature', fields('v1', 't'), '{timestamp}.{body}', ['milliseconds', 180], { dedupe: [[path('id')]], type: [[path('event')]] }), // X S
  elevenlabs: fieldDated('ElevenLabs-Signature', fields('v0', 't'), '{timestamp}.{body}', ['seconds', 1_800], { dedupe: bodyHash, type: [[path('type')]] }), // X S
  retell: fieldDated('X-Retell-Signature', fields('d', 'v'), '{body}{timestamp}', ['milliseconds', 300], { dedupe: bodyHash, type: [[path('event')]] }), // X S
  sanity: fieldDated('sanity-webhook-signature', fields('v1', 't'), '{timestamp}.{body}', ['milliseconds', 300], { encoding: 'base64url', dedupe: [[header('idempotency-key')]] }), // X S; dedupe !

  // Standard Webhooks and its dialects.
  'standard-webhooks': standard(['webhook']), // X S D
  svix: standard(['svix', 'webhook']), // X S
  clerk: standard(['svix', 'webhook']), // X S
  resend: standard(['svix', 'webhook']), // X S
  openai: standard(['webhook']), // X S
  replicate: standard(['webhook']), // X S
  polar: standard(['webhook'], { key: 'utf8' }), // X S
  'gitlab-signing': standard(['webhook'], { type: gitlabType(), credentials: { headers: ['x-gitlab-token'] } }), // D

  // Public keys.
  discord: dated({ signature: 'X-Signature-Ed25519', timestamp: 'X-Signature-Timestamp' }, '{timestamp}{body}', ['seconds', 300], {
    algorithm: 'ed25519', key: 'ed25519', dedupe: [[path('id')], ['bodyHash']], type: [[path('event.type')], [path('type')]], handshakes: [discordPing],
  }), // X S
  telnyx: dated({ signature: 'telnyx-signature-ed25519', timestamp: 'telnyx-timestamp' }, '{timestamp}|{body}', ['seconds', 300], {
    algorithm: 'ed25519', key: 'ed25519', encoding: 'base64', dedupe: [[path('data.id')]], type: [[path('data.event_type')]],
  }), // X S
  sendgrid: dated({ signature: 'X-Twilio-Email-Event-Webhook-Signature', timestamp: 'X-Twilio-Email-Event-Webhook-Timestamp' }, '{timestamp}{body}', ['seconds', 300], {
    algorithm: 'ecdsa-sha256', key: 'p256', encoding: 'base64', dedupe: [[path('*.sg_event_id')]], type: [[path('*.event')]],
  }), // X S

  // URL and sorted form parameters.
  twilio: bodySigned('X-Twilio-Signature', {
    algorithm: 'hmac-sha1',
    encoding: 'base64',
    signed: '{url}{form}',
    urls: twilioUrls,
    bodyHashParameter: 'bodySHA256',
    dedupe: [[header('I-Twilio-Idempotency-Token')], [path('MessageSid'), path('MessageStatus')], [path('MessageSid'), path('SmsStatus')], [path('CallSid'), path('CallStatus')]],
    type: [[text('message'), path('MessageStatus')], [text('message'), path('SmsStatus')], [text('call'), path('CallStatus')]],
    acceptance: twiml,
  }), // X S; dedupe ! R
  mandrill: bodySigned('X-Mandrill-Signature', {
    algorithm: 'hmac-sha1',
    encoding: 'base64',
    signed: '{url}{form}',
    dedupe: [[path('mandrill_events.*._id'), path('mandrill_events.*.event'), path('mandrill_events.*.ts')]],
    type: [[path('mandrill_events.*.event')]],
    handshakes: [headProbe],
  }), // D; dedupe R

  // A secret that is repeated; nothing of the body is covered.
  gitlab: { proof: 'credential', from: { header: 'X-Gitlab-Token' }, dedupe: [[header('Idempotency-Key')]], type: gitlabType() }, // D T; dedupe !
  telegram: { proof: 'credential', from: { header: 'X-Telegram-Bot-Api-Secret-Token' }, dedupe: [[path('update_id')]] }, // R
  flutterwave: { proof: 'credential', from: { header: 'verif-hash' }, dedupe: bodyHash, type: [[path('event')]] }, // R
  postmark: { proof: 'credential', from: { basic: true }, dedupe: [[path('RecordType'), path('MessageID'), path('ID')], ['bodyHash']], type: [[path('RecordType')]] }, // D; dedupe R
  'microsoft-graph': {
    proof: 'credential',
    from: { everyItem: 'value.*.clientState' },
    dedupe: [[path('value.*.id')]],
    type: [[path('value.*.lifecycleEvent')], [path('value.*.changeType')]],
    handshakes: [graphValidation],
  }, // D
}

function hubspotEvents(): Pick<Row, 'dedupe' | 'type'> {
  return { dedupe: [[path('*.subscriptionId'), path('*.eventId'), path('*.occurredAt')], ['bodyHash']], type: [[path('*.subscriptionType')]] }
}

function gitlabType(): NonNullable<Row['type']> {
  return [[path('object_kind')], [path('event_name')], [header('X-Gitlab-Event')]]
}
