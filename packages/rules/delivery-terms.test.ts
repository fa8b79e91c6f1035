import { expect, test } from 'vitest'
import { connectionSpec, type ConnectionInput } from '@tenterhook/schemas/connection'
import { newId } from '@tenterhook/schemas/ids'
import { deliveryTerms } from './delivery-terms.ts'
import { buildSubject } from './subject.ts'

const [id, destinationId] = [newId('con', 0), newId('dst', 0)]
const over = (settings: Partial<ConnectionInput>) => ({
  id,
  version: 3,
  destinationId,
  spec: connectionSpec.parse({ name: 'a', source: 'b', destination: 'c', ...settings }),
})
const subject = (body: object) =>
  buildSubject({
    body: Buffer.from(JSON.stringify(body)),
    headers: [['Content-Type', 'application/json']],
    query: '',
    path: '',
    type: undefined,
    source: 'b',
  })

test('a delivery takes its connection’s version, destination, delay and age, the delay on top', () => {
  expect(deliveryTerms(over({ delay: '2s', retry: { maxAge: '1h' } }), subject({ id: 7 }))).toEqual({
    connectionId: id,
    connectionVersion: 3,
    destinationId,
    orderKey: null,
    delayMs: 2_000,
    maxAgeMs: 3_602_000,
  })
})

test('over an ordered connection it has the event’s key, and none where the event has none', () => {
  for (const order of ['body.id', { by: 'body.id', onFailure: 'skip' }] as const) {
    expect(deliveryTerms(over({ order }), subject({ id: 7 })).orderKey).toBe('7')
    expect(deliveryTerms(over({ order }), subject({ ref: 7 })).orderKey).toBeNull()
  }
})
