import { join } from 'node:path'
import { verificationSchema } from '@tenterhook/schemas/verification'
import { samples } from '@tenterhook/verify/samples'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../support/poll.ts'
import { startReceiver } from '../support/receiver.ts'
import type { Receiver } from '../support/receiver.ts'
import { drained } from '../support/rows.ts'
import { send } from '../support/send.ts'
import { root } from '../support/service-process.ts'
import { sharedStack } from '../support/stack.ts'

let receiver: Receiver
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(() => receiver.stop())

const stack = sharedStack(() => ({
  config: {
    file: join(root, 'tenterhook.yaml'),
    environment: { TENTERHOOK_DEMO_PORT: String(receiver.port), STRIPE_WEBHOOK_SECRET: 'whsec_of_our_own' },
  },
}))

/** Sends a sample as its provider would; gives back what was sent and where it arrived, once nothing is left to come. */
async function trigger(source: string, sample: string, change: (body: string) => string = (body) => body) {
  const build = samples[sample]
  if (build === undefined) throw new Error(`there is no sample ${sample}`)
  const id = crypto.randomUUID()
  const { headers, body } = build({ id, nowMs: Date.now() })
  const sent = Buffer.from(change(body.toString('utf8')))
  receiver.clear()
  const answer = await send(stack(), source, { headers, body: sent, id })
  expect(answer).toMatchObject({ status: 200, json: { id: expect.stringMatching(/^evt_/) } })
  await drained(stack().store)
  const received = receiver.received()
  for (const one of received) expect(one.body.toString('utf8'), `the body at ${one.path}`).toBe(sent.toString('utf8'))
  return received.map(({ path }) => path).toSorted()
}

const withField = (name: string, value: unknown) => (body: string) =>
  JSON.stringify({ ...(JSON.parse(body) as object), [name]: value })

describe('the demo', () => {
  it('a payment goes to accounting and to the CRM at once', async () => {
    expect(await trigger('stripe', 'stripe.payment_intent.succeeded')).toEqual(['/accounting', '/crm'])
  })

  it('another Stripe event goes nowhere, and is kept with the reason of each connection', async () => {
    expect(await trigger('stripe', 'stripe.customer.created')).toEqual([])
    const { rows } = await stack().store.durable.query<{ routing: string }>(
      'SELECT routing FROM events ORDER BY seq DESC LIMIT 1',
    )
    expect(JSON.parse(rows[0]?.routing ?? '')).toHaveLength(2)
    expect(rows[0]?.routing).toContain('payment_intent.succeeded')
  })

  it('a form becomes a contact', async () => {
    expect(await trigger('forms', 'forms.contact')).toEqual(['/crm'])
    const form = new URLSearchParams(receiver.received('/crm')[0]?.body.toString('utf8'))
    expect(form.get('email')).toBe('ada@example.com')
  })

  it('a form without an address becomes no contact', async () => {
    expect(await trigger('forms', 'forms.contact', (body) => body.replace(/email=[^&]*&/, ''))).toEqual([])
  })

  it('an inventory update goes to both sales channels', async () => {
    expect(await trigger('shop', 'shopify.inventory_levels/update')).toEqual(['/pos', '/web'])
  })

  it('an order of the same shop goes to neither', async () => {
    expect(await trigger('shop', 'shopify.orders/create')).toEqual([])
  })

  it('a high-priority ticket goes to chat and to the project tool', async () => {
    expect(await trigger('desk', 'desk.ticket.created.high')).toEqual(['/chat', '/project'])
    expect(await trigger('desk', 'desk.ticket.created.high', withField('priority', 'urgent'))).toEqual([
      '/chat',
      '/project',
    ])
  })

  it('an ordinary ticket goes to the project tool only', async () => {
    expect(await trigger('desk', 'desk.ticket.created.normal')).toEqual(['/project'])
  })

  it('a lead whose score passes 80 starts a sequence; 80 does not pass', async () => {
    expect(await trigger('crm', 'crm.lead.scored', withField('score', 81))).toEqual(['/campaigns'])
    expect(await trigger('crm', 'crm.lead.scored', withField('score', 80))).toEqual([])
    expect(await trigger('crm', 'crm.lead.scored', withField('score', '81'))).toEqual([])
  })

  it('a push goes to chat and to the project tool', async () => {
    expect(await trigger('github', 'github.push')).toEqual(['/chat', '/project'])
  })

  it('a ping of GitHub goes nowhere', async () => {
    expect(await trigger('github', 'github.ping')).toEqual([])
  })

  it('a payment signed with the secret of the file is refused while the environment sets another', async () => {
    const { headers, body } = samples['stripe.payment_intent.succeeded']?.({ id: 'x', nowMs: Date.now() }) ?? {
      headers: [],
      body: '',
    }
    const sign = verificationSchema.parse({ scheme: 'stripe', secret: 'whsec_demo_stripe_4f1c8a27' })
    receiver.clear()
    expect(await send(stack(), 'stripe', { headers, body, sign })).toMatchObject({
      status: 401,
      json: { code: 'signature_mismatch' },
    })
    await until(async () => (await stack().store.durable.query('SELECT 1 FROM rejections')).rowCount === 1, {
      what: 'the rejection to be recorded',
    })
    expect(receiver.count()).toBe(0)
  })
})
