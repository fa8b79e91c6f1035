import type { HeaderPairs } from '@tenterhook/schemas/headers'

/** What a sample is built from: a fresh id, so that two of them are two events, and the time it is sent. */
export interface SampleParams {
  id: string
  nowMs: number
}

/** A small, realistic request of one provider and type, unsigned. `headers` includes its Content-Type. */
export interface Sample {
  headers: HeaderPairs
  body: Buffer
}

type Build = (params: SampleParams) => Sample
type JsonBody = Readonly<Record<string, unknown>>

/** Samples by `<provider>.<type>`, as `tenterhook trigger` takes them. */
export const samples: Readonly<Record<string, Build>> = {
  'stripe.payment_intent.succeeded': ({ id, nowMs }) =>
    json(
      stripeEvent(id, nowMs, 'payment_intent.succeeded', {
        id: `pi_${id}`,
        object: 'payment_intent',
        amount: 4200,
        currency: 'eur',
        status: 'succeeded',
        metadata: { order_id: '6735' },
      }),
    ),
  'stripe.charge.failed': ({ id, nowMs }) =>
    json(
      stripeEvent(id, nowMs, 'charge.failed', {
        id: `ch_${id}`,
        object: 'charge',
        amount: 1999,
        currency: 'eur',
        status: 'failed',
        failure_code: 'card_declined',
        failure_message: 'Your card was declined.',
      }),
    ),
  'stripe.customer.created': ({ id, nowMs }) =>
    json(
      stripeEvent(id, nowMs, 'customer.created', {
        id: `cus_${id}`,
        object: 'customer',
        email: 'ada@example.com',
        name: 'Ada Lovelace',
      }),
    ),

  'github.push': ({ id }) =>
    json(
      {
        ref: 'refs/heads/main',
        before: '6113728f27ae82c7b1a177c8d03f9e96e0adf246',
        after: '59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5',
        repository: { id: 1296269, name: 'hello-world', full_name: 'octocat/hello-world', private: false },
        pusher: { name: 'octocat', email: 'octocat@example.com' },
        commits: [
          {
            id: '59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5',
            message: 'Say hello to the world',
            author: { name: 'Octo Cat' },
          },
        ],
      },
      [
        ['X-GitHub-Event', 'push'],
        ['X-GitHub-Delivery', id],
        ['X-GitHub-Hook-ID', '292430182'],
      ],
    ),
  'github.ping': ({ id }) =>
    json(
      {
        zen: 'Keep it logically awesome.',
        hook_id: 292430182,
        hook: { type: 'Repository', id: 292430182, events: ['push'], active: true },
      },
      [
        ['X-GitHub-Event', 'ping'],
        ['X-GitHub-Delivery', id],
        ['X-GitHub-Hook-ID', '292430182'],
      ],
    ),
  'github.pull_request': ({ id }) =>
    json(
      {
        action: 'opened',
        number: 42,
        pull_request: { id: 279147437, number: 42, title: 'Answer the greeting', state: 'open', draft: false },
        repository: { id: 1296269, full_name: 'octocat/hello-world' },
      },
      [
        ['X-GitHub-Event', 'pull_request'],
        ['X-GitHub-Delivery', id],
        ['X-GitHub-Hook-ID', '292430182'],
      ],
    ),

  'shopify.orders/create': ({ id, nowMs }) =>
    json(
      {
        id: 5678901234567,
        email: 'ada@example.com',
        created_at: iso(nowMs),
        total_price: '42.00',
        currency: 'EUR',
        line_items: [{ sku: 'TH-1', quantity: 2, price: '21.00' }],
      },
      shopify(id, nowMs, 'orders/create'),
    ),
  'shopify.inventory_levels/update': ({ id, nowMs }) =>
    json(
      { inventory_item_id: 49148385, location_id: 24826418, available: 7, updated_at: iso(nowMs) },
      shopify(id, nowMs, 'inventory_levels/update'),
    ),

  'slack.message': ({ id, nowMs }) =>
    json({
      team_id: 'T0001',
      api_app_id: 'A0001',
      type: 'event_callback',
      event_id: `Ev${id}`,
      event_time: seconds(nowMs),
      event: {
        type: 'message',
        channel: 'C2147483705',
        user: 'U2147483697',
        text: 'Hello world',
        ts: `${seconds(nowMs)}.000200`,
      },
    }),
  'slack.url_verification': ({ id }) => json({ type: 'url_verification', challenge: id }),

  'gitlab.push': ({ id }) =>
    json(
      {
        object_kind: 'push',
        ref: 'refs/heads/main',
        checkout_sha: 'da1560886d4f094c3e6c9ef40349f7d38b5d27d7',
        user_username: 'jsmith',
        project: { id: 15, name: 'Diaspora', path_with_namespace: 'mike/diaspora' },
        total_commits_count: 1,
      },
      [
        ['X-Gitlab-Event', 'Push Hook'],
        ['Idempotency-Key', id],
      ],
    ),

  'twilio.message': ({ id }) =>
    form(
      [
        ['MessageSid', `SM${id}`],
        ['AccountSid', 'AC00000000000000000000000000000000'],
        ['From', '+14155550100'],
        ['To', '+14155550199'],
        ['Body', 'Hello, is anyone there?'],
        ['NumMedia', '0'],
        ['SmsStatus', 'received'],
      ],
      [['I-Twilio-Idempotency-Token', id]],
    ),

  'standard.contact.created': ({ id, nowMs }) =>
    json({
      type: 'contact.created',
      timestamp: iso(nowMs),
      data: { id: `contact_${id}`, email: 'ada@example.com', name: 'Ada Lovelace' },
    }),

  'forms.contact': ({ id }) =>
    form([
      ['id', id],
      ['form', 'contact'],
      ['name', 'Ada Lovelace'],
      ['email', 'ada@example.com'],
      ['message', 'Please call me back — it’s about engines.'],
    ]),
  // A shop that signs, and names its types, as Shopify does.
  'shop.inventory.updated': ({ id, nowMs }) =>
    json(
      {
        inventory_item_id: 49148385,
        location_id: 24826418,
        sku: 'TH-1',
        available: 7,
        updated_at: iso(nowMs),
      },
      shopify(id, nowMs, 'inventory_levels/update'),
    ),
  'desk.ticket.created': ticket('high'),
  'desk.ticket.created.high': ticket('high'),
  'desk.ticket.created.normal': ticket('normal'),
  'crm.lead.scored': lead(87),
  'crm.lead.scored.low': lead(35),
  'erp.order.shipped': ({ id, nowMs }) => ({
    headers: [['Content-Type', 'application/xml; charset=utf-8']],
    body: Buffer.from(
      `<?xml version="1.0" encoding="UTF-8"?>\n<order id="${id}"><type>order.shipped</type><shippedAt>${iso(nowMs)}</shippedAt><carrier>DHL</carrier></order>\n`,
      'utf8',
    ),
  }),
}

function ticket(priority: 'high' | 'normal'): Build {
  return ({ id, nowMs }) =>
    json({
      id,
      type: 'ticket.created',
      createdAt: iso(nowMs),
      number: 1042,
      subject: 'The printer is on fire',
      priority,
      requester: 'ada@example.com',
    })
}

function lead(score: number): Build {
  return ({ id, nowMs }) =>
    json({
      id,
      type: 'lead.scored',
      scoredAt: iso(nowMs),
      email: 'ada@example.com',
      company: 'Analytical Engines Ltd',
      score,
    })
}

function stripeEvent(id: string, nowMs: number, type: string, object: JsonBody): JsonBody {
  return {
    id: `evt_${id}`,
    object: 'event',
    api_version: '2025-09-30.clover',
    created: seconds(nowMs),
    livemode: false,
    pending_webhooks: 1,
    type,
    data: { object },
  }
}

function shopify(id: string, nowMs: number, topic: string): HeaderPairs {
  return [
    ['X-Shopify-Topic', topic],
    ['X-Shopify-Shop-Domain', 'example.myshopify.com'],
    ['X-Shopify-API-Version', '2025-10'],
    ['X-Shopify-Webhook-Id', id],
    ['X-Shopify-Triggered-At', iso(nowMs)],
  ]
}

function json(body: JsonBody, headers: HeaderPairs = []): Sample {
  return {
    headers: [['Content-Type', 'application/json'], ...headers],
    body: Buffer.from(JSON.stringify(body), 'utf8'),
  }
}

function form(pairs: [string, string][], headers: HeaderPairs = []): Sample {
  return {
    headers: [['Content-Type', 'application/x-www-form-urlencoded'], ...headers],
    body: Buffer.from(new URLSearchParams(pairs).toString(), 'utf8'),
  }
}

const iso = (ms: number) => new Date(ms).toISOString()
const seconds = (ms: number) => Math.floor(ms / 1_000)
