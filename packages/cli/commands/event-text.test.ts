import { describe, expect, test } from 'vitest'
import { deliveryWords, eventLine, eventText, hexLines, mismatchWords } from './event-text.ts'
import type { DeliverySummary, EventDetail } from './api-shapes.ts'
import { printable, shortened } from './printable.ts'

const delivery: DeliverySummary = {
  id: 'dlv_1',
  eventId: 'evt_1',
  connection: { name: 'a-to-crm' },
  destination: { name: 'crm' },
  state: 'delivered',
  attempts: 2,
  failures: 1,
  dueAt: null,
  deadReason: null,
  finishedAt: null,
  replayOf: null,
  held: false,
  heldBy: null,
}
const event: EventDetail = {
  id: 'evt_1',
  source: { name: 'desk' },
  type: 'ticket.created',
  state: 'routed',
  bodyBytes: 7,
  receivedAt: '2026-01-31T09:30:00.000Z',
  routedAt: '2026-01-31T09:30:00.012Z',
  configVersion: 3,
  method: 'POST',
  path: '/x',
  query: 'a=b',
  headers: [['X-A', 'b\u001b[2Jc']],
  remoteAddress: '192.0.2.1',
  notMatched: null,
  traceId: 'abc',
  bodyBase64: Buffer.from('{"a":1}').toString('base64'),
  bodyText: '{"a":1}',
  deliveries: [delivery],
  duplicates: [],
}

describe('a stranger’s text', () => {
  test('can neither move the cursor nor turn the writing', () => {
    expect(printable('a\u001b[31mb\u0007\u009b\n')).toBe('a\\x1b[31mb\\x07\\x9b\\x0a')
    expect(printable('a\n\tb\r', { lines: true })).toBe('a\n\tb\\x0d')
    expect(printable('\u202eabc\u2028')).toBe('\\u{202e}abc\\u{2028}')
    expect(printable('héllo 日本 👍')).toBe('héllo 日本 👍')
  })

  test('is cut, and says so', () => {
    expect(shortened('abcdef', 6)).toBe('abcdef')
    expect(shortened('abcdefg', 6)).toBe('abcdef… (1 more characters)')
  })
})

describe('an event', () => {
  test('in one line says what became of it', () => {
    const chat = {
      ...delivery,
      connection: { name: 'a-to-chat' },
      destination: { name: 'chat' },
      failures: 0,
      state: 'queued',
    }
    expect(eventLine(event, [delivery, chat])).toBe(
      '09:30:00.000Z  evt_1  desk  ticket.created  7 B  → chat queued, crm delivered after 1 failure',
    )
    expect(eventLine(event, [])).toMatch(/→ no connection matched$/)
    expect(eventLine(event, undefined)).toMatch(/→ routed$/)
    expect(eventLine({ ...event, state: 'accepted' }, [])).toMatch(/→ not routed yet$/)
    expect(eventLine({ ...event, type: 'a\u001b' }, [])).toContain('a\\x1b')
  })

  test('whole shows what came, each attempt in order, and why not', () => {
    const attempt = {
      number: 2,
      startedAt: '2026-01-31T09:30:05.000Z',
      outcome: 'delivered',
      status: 200,
      code: null,
      detail: null,
      timings: { totalMs: 3.4 },
    }
    const first = {
      ...attempt,
      number: 1,
      outcome: 'unreachable',
      status: null,
      code: 'connect_refused',
      detail: 'no',
      timings: null,
    }
    const reason = { path: 'body.score', operator: '$gt', expected: 80, actual: 35 }
    const lines = eventText(
      {
        ...event,
        notMatched: [
          { connection: 'lead', why: 'filter', reason },
          { connection: 'off', why: 'disabled' },
        ],
      },
      new Map([['dlv_1', [attempt, first]]]),
    )
    expect(lines).toEqual([
      'evt_1  desk  ticket.created',
      'received    2026-01-31T09:30:00.000Z from 192.0.2.1: POST /in/desk/x?a=b',
      'state       routed 12 ms later, by configuration 3',
      'trace       abc',
      'headers',
      '  X-A: b\\x1b[2Jc',
      'body, 7 bytes',
      '  {"a":1}',
      'deliveries',
      '  a-to-crm → crm delivered after 1 failure  dlv_1',
      '    attempt 1  09:30:05.000Z  unreachable  connect_refused: no',
      '    attempt 2  09:30:05.000Z  delivered  200 in 3 ms',
      'not matched',
      '  lead: body.score is 35; expected $gt 80',
      '  off: disabled',
    ])
  })

  test('shows bytes that are no text as hex, and says where a large body is', () => {
    const bytes = Buffer.from([0, 65, 255])
    expect(eventText({ ...event, bodyText: null, bodyBase64: bytes.toString('base64') }, new Map())).toContain(
      `  00000000  00 41 ff${' '.repeat(41)}|.A.|`,
    )
    expect(eventText({ ...event, bodyText: null, bodyBase64: null }, new Map()).join('\n')).toContain(
      'events get evt_1 --body',
    )
    expect(hexLines(Buffer.alloc(300)).at(-1)).toBe('… 44 more bytes')
    expect(hexLines(Buffer.alloc(300))).toHaveLength(17)
  })
})

describe('a delivery', () => {
  test('says why it is dead, what holds it, and that it is a replay', () => {
    expect(deliveryWords({ ...delivery, state: 'dead', deadReason: 'expired' })).toBe('crm dead (expired)')
    expect(deliveryWords({ ...delivery, state: 'pending', held: true, heldBy: { kind: 'connection_paused' } })).toBe(
      'crm pending (held: connection paused)',
    )
    expect(deliveryWords({ ...delivery, failures: 0, replayOf: 'evt_1', destination: { name: null } })).toBe(
      'a deleted destination delivered (a replay)',
    )
  })
})

test('an absent field is told as absent', () => {
  const reason = {
    path: 'body.email',
    operator: '$exists',
    expected: true,
    actual: undefined,
    hint: 'the event has no body.email',
  }
  expect(mismatchWords({ connection: 'form', why: 'filter', reason })).toBe(
    'form: body.email is absent; expected $exists true (the event has no body.email)',
  )
})
