import {
  discordPing,
  dropboxChallenge,
  getProbe,
  graphValidation,
  headProbe,
  metaChallenge,
  oktaVerification,
  slackChallenge,
  twitchChallenge,
  wooCommercePing,
  xChallenge,
  zoomValidation,
} from './handshake.ts'
import type { FixedProvider } from './provider-proofs.ts'
import type { Alternative, EventRow, FixedAnswer, Source } from './row.ts'

const header = (name: string): Source => ({ header: name })
const path = (steps: string): Source => ({ path: steps })
const text = (words: string): Source => ({ text: words })

const id: readonly Alternative[] = [[path('id')]]
const type: readonly Alternative[] = [[path('type')]]
const bodyHash: readonly Alternative[] = [['bodyHash']]
const signedId: readonly Alternative[] = [['signedId']]

const empty: FixedAnswer = { status: 200, contentType: 'text/plain; charset=utf-8', body: '' }
const twiml: FixedAnswer = {
  status: 200,
  contentType: 'text/xml; charset=utf-8',
  body: '<?xml version="1.0" encoding="UTF-8"?><Response></Response>',
}
const hubspot: EventRow = {
  dedupe: [[path('*.subscriptionId'), path('*.eventId'), path('*.occurredAt')], ['bodyHash']],
  type: [[path('*.subscriptionType')]],
}
const standard: EventRow = { dedupe: signedId, type }
const gitlabType: readonly Alternative[] = [[path('object_kind')], [path('event_name')], [header('X-Gitlab-Event')]]

/**
 * What each provider's requests are once they are proven: dedupe key, type, handshakes, the answers it expects.
 *
 * Dedupe keys: an id inside the signed content where there is one. Ids from unsigned headers are marked `!`: whoever
 * can replay a captured request can mint fresh ones. Without an id the body's hash serves where a time in the body
 * keeps two real events apart; otherwise there is no key, because a duplicate costs less than a lost event.
 */
export const events: Readonly<Record<FixedProvider | 'okta' | 'mailchimp' | 'activecampaign', EventRow>> = {
  activecampaign: { type },
  'adyen-banking': { dedupe: bodyHash, type },
  bitbucket: { dedupe: [[header('X-Request-UUID')]], type: [[header('X-Event-Key')]] }, // !
  box: { dedupe: id, type: [[path('trigger')]] },
  calendly: { dedupe: bodyHash, type: [[path('event')]] },
  clerk: standard,
  cloudinary: { dedupe: bodyHash, type: [[path('notification_type')]] },
  'coinbase-commerce': { dedupe: [[path('event.id')]], type: [[path('event.type')]] },
  discord: { dedupe: [...id, ...bodyHash], type: [[path('event.type')], ...type], handshakes: [discordPing] },
  docusign: {
    dedupe: [[path('data.envelopeId'), path('event'), path('generatedDateTime')]],
    type: [[path('event')]],
  },
  // Names the accounts in which something changed, not what changed: equal bodies are not equal events.
  dropbox: { handshakes: [dropboxChallenge] },
  easypost: { dedupe: id, type: [[path('description')]] },
  elevenlabs: { dedupe: bodyHash, type },
  flutterwave: { dedupe: bodyHash, type: [[path('event')]] },
  github: { dedupe: [[header('X-GitHub-Delivery')]], type: [[header('X-GitHub-Event')]] }, // !
  gitlab: { dedupe: [[header('Idempotency-Key')]], type: gitlabType }, // !
  // A hook with both a signing and a secret token sends both.
  'gitlab-signing': { dedupe: signedId, type: gitlabType, credentials: { headers: ['x-gitlab-token'] } },
  gocardless: {
    dedupe: [[path('events.*.id')]],
    type: [[path('events.*.resource_type'), path('events.*.action')]],
  },
  hookdeck: { dedupe: [[header('x-hookdeck-eventid')]] }, // !
  hubspot,
  'hubspot-v1': hubspot,
  'hubspot-v2': hubspot,
  intercom: { dedupe: id, type: [[path('topic')]] },
  jira: { dedupe: [[header('X-Atlassian-Webhook-Identifier')]], type: [[path('webhookEvent')]] }, // !
  line: { dedupe: [[path('events.*.webhookEventId')]], type: [[path('events.*.type')]] },
  linear: { dedupe: [[header('Linear-Delivery')], ...bodyHash], type: [[path('type'), path('action')]] }, // !
  mailchimp: { dedupe: bodyHash, type, handshakes: [getProbe] },
  mandrill: {
    dedupe: [[path('mandrill_events.*._id'), path('mandrill_events.*.event'), path('mandrill_events.*.ts')]],
    type: [[path('mandrill_events.*.event')]],
    handshakes: [headProbe],
  },
  meta: {
    dedupe: bodyHash,
    type: [[path('object'), path('entry.*.changes.*.field')], [path('object')]],
    handshakes: [metaChallenge],
    credentials: { query: ['hub.verify_token'] },
  },
  // Without ids, two changes of one resource can have equal bodies.
  'microsoft-graph': {
    dedupe: [[path('value.*.id')]],
    type: [[path('value.*.lifecycleEvent')], [path('value.*.changeType')]],
    handshakes: [graphValidation],
  },
  'ms-teams-outgoing': { dedupe: id, type },
  mux: { dedupe: id, type },
  notion: { dedupe: id, type },
  okta: {
    dedupe: [[path('data.events.*.uuid')]],
    type: [[path('data.events.*.eventType')]],
    handshakes: [oktaVerification],
  },
  openai: standard,
  paddle: { dedupe: [[path('event_id')]], type: [[path('event_type')]] },
  pagerduty: { dedupe: [[path('event.id')]], type: [[path('event.event_type')]] },
  paystack: { dedupe: bodyHash, type: [[path('event')]] },
  polar: standard,
  postmark: {
    dedupe: [[path('RecordType'), path('MessageID'), path('ID')], ['bodyHash']],
    type: [[path('RecordType')]],
  },
  pusher: { dedupe: bodyHash, type: [[path('events.*.name')]] },
  quickbooks: { dedupe: bodyHash },
  razorpay: { dedupe: [[header('x-razorpay-event-id')]], type: [[path('event')]] }, // !
  replicate: standard,
  resend: standard,
  retell: { dedupe: bodyHash, type: [[path('event')]] },
  sanity: { dedupe: [[header('idempotency-key')]] }, // !
  sendgrid: { dedupe: [[path('*.sg_event_id')]], type: [[path('*.event')]] },
  sentry: { dedupe: [[header('Request-ID')]], type: [[header('Sentry-Hook-Resource'), path('action')]] }, // !
  shopify: {
    dedupe: [[header('X-Shopify-Webhook-Id')], [header('shopify-webhook-id')]],
    type: [[header('X-Shopify-Topic')], [header('shopify-topic')]],
  }, // !
  slack: {
    dedupe: [[path('event_id')], [path('trigger_id')], [path('payload.trigger_id')]],
    type: [[path('event.type')], [path('command')], [path('payload.type')], ...type],
    handshakes: [slackChallenge],
    // What a command is answered with is shown to the person who typed it.
    acceptance: empty,
  },
  square: { dedupe: [[path('event_id')]], type },
  'standard-webhooks': standard,
  'stream-chat': { dedupe: [[header('X-Webhook-Id')]], type }, // !
  stripe: { dedupe: id, type },
  svix: standard,
  telegram: { dedupe: [[path('update_id')]] },
  telnyx: { dedupe: [[path('data.id')]], type: [[path('data.event_type')]] },
  trello: { dedupe: [[path('action.id')]], type: [[path('action.type')]], handshakes: [headProbe] },
  twilio: {
    dedupe: [
      [header('I-Twilio-Idempotency-Token')], // !
      [path('MessageSid'), path('MessageStatus')],
      [path('MessageSid'), path('SmsStatus')],
      [path('CallSid'), path('CallStatus')],
    ],
    type: [
      [text('message'), path('MessageStatus')],
      [text('message'), path('SmsStatus')],
      [text('call'), path('CallStatus')],
    ],
    acceptance: twiml,
  },
  twitch: {
    dedupe: signedId,
    type: [[header('Twitch-Eventsub-Subscription-Type')]],
    handshakes: [twitchChallenge],
  },
  typeform: { dedupe: [[path('event_id')]], type: [[path('event_type')]] },
  vercel: { dedupe: id, type },
  webflow: { dedupe: bodyHash, type: [[path('triggerType')]] },
  woocommerce: {
    // The delivery id is a hash of webhook and second: two events of one second share it.
    dedupe: [[header('X-WC-Webhook-Delivery-ID'), 'bodyHash']], // !
    type: [[header('X-WC-Webhook-Topic')]],
    handshakes: [wooCommercePing],
  },
  workos: { dedupe: id, type: [[path('event')]] },
  'x-twitter': { dedupe: bodyHash, handshakes: [xChallenge] },
  xero: {
    dedupe: [[path('events.*.resourceId'), path('events.*.eventDateUtc')]],
    type: [[path('events.*.eventCategory'), path('events.*.eventType')]],
    // "Intent to receive" sends good and bad signatures and wants both answered with an empty body.
    acceptance: empty,
    refusal: { ...empty, status: 401 },
  },
  zendesk: { dedupe: [[header('X-Zendesk-Webhook-Invocation-Id')]], type }, // !
  zoom: { dedupe: bodyHash, type: [[path('event')]], handshakes: [zoomValidation] },
}
