import { describe, expect, it } from 'vitest'
import { check, recoveries } from './check.ts'
import { crashesIn, type Evidence } from './evidence.ts'

const kill = { kind: 'kill', target: 'dispatcher', startMs: 10_000, healMs: 10_000, endMs: 10_000 } as const

/** Two events, one to two destinations and one to one of them and to a sick one, all as it should be. */
function truth(): Evidence {
  const event = (n: number) => ({
    id: `evt_${n}`,
    seq: n,
    key: `key-${n}`,
    sha256: `sha-${n}`,
    state: 'routed',
    due: false,
  })
  const delivery = (id: string, n: number, destination: string) => ({
    id,
    event: `evt_${n}`,
    connection: `to-${destination}`,
    destination,
    state: 'delivered',
    due: false,
    deadReason: null,
  })
  const arrival = (n: number, id: string, destination: string, signed: boolean | null, at: number) => ({
    n: 0,
    destination,
    delivery: id,
    key: `key-${n}`,
    sha256: `sha-${n}`,
    signed,
    trace: `trace-${n}`,
    at,
    answered: true,
  })
  const sent = (n: number) => ({
    key: `key-${n}`,
    sha256: `sha-${n}`,
    trace: `trace-${n}`,
    source: 'hub' as const,
    group: 'group-1',
    at: 9_000,
  })
  return {
    sent: [
      {
        ...sent(1),
        wants: ['signed', 'even'],
        sick: null,
        answers: [
          { status: 503, id: null, at: 9_050, code: 'commit_failed' },
          { status: 200, id: 'evt_1', at: 9_100, code: null },
        ],
      },
      { ...sent(2), wants: ['signed'], sick: 'drip', answers: [{ status: 200, id: 'evt_2', at: 9_100, code: null }] },
    ],
    events: [event(1), event(2)],
    deliveries: [
      delivery('dlv_1', 1, 'signed'),
      delivery('dlv_2', 1, 'even'),
      delivery('dlv_3', 2, 'signed'),
      { ...delivery('dlv_4', 2, 'drip'), state: 'dead', deadReason: 'exhausted' },
    ],
    arrivals: [
      arrival(1, 'dlv_1', 'signed', true, 9_200),
      arrival(1, 'dlv_2', 'even', null, 9_300),
      arrival(2, 'dlv_3', 'signed', true, 9_900),
    ],
    faults: [],
    crashes: [],
    deaths: ['router (exit 1)'],
    samples: [{ rssMb: { router: 100 }, redisKeys: 3, redisMb: 2, admitted: 4 }],
    drainedMs: 20_000,
  }
}

const first = <T>(list: readonly T[]): T => {
  const [one] = list
  if (one === undefined) throw new Error('the list is empty')
  return one
}

/** What is said of the truth after a lie was told about it. */
function saidOf(lie: (evidence: Evidence) => void): string[] {
  const evidence = truth()
  lie(evidence)
  return check(evidence).violations.map(({ invariant, what }) => `${invariant}: ${what}`)
}

describe('the checks', () => {
  it('say nothing of a round in which nothing went wrong', () => {
    expect(saidOf(() => {})).toEqual([])
    expect(check(truth()).figures).toEqual({
      sent: 2,
      accepted: 2,
      committed: 2,
      lost: 0,
      deliveries: 4,
      arrivals: 3,
      repeats: 0,
      dead: 1,
      waiting: 0,
    })
  })

  it('notice an event of a group that came before an earlier one', () => {
    const inOrder = (order: number[]) =>
      saidOf((evidence) => {
        for (const [at, n] of order.entries())
          evidence.arrivals.push({ ...first(evidence.arrivals), key: `key-${n}`, destination: 'ordered', at })
      }).filter((what) => what.startsWith('order'))
    expect(inOrder([1, 2])).toEqual([])
    expect(inOrder([1, 2, 1])).toEqual([])
    expect(inOrder([2, 1])).toEqual(['order: key-1 came after key-2, which was accepted later'])
  })

  it.each<[string, (evidence: Evidence) => void, RegExp]>([
    [
      'an accepted event that never arrived',
      (e) => void e.arrivals.pop(),
      /I1: key-2 was accepted and never reached signed/,
    ],
    [
      'an accepted event that is nowhere in the tables',
      (e) => {
        e.events.pop()
        e.deliveries = e.deliveries.filter(({ event }) => event !== 'evt_2')
        e.arrivals.pop()
      },
      /I1: key-2 was accepted as evt_2, which is not in the tables/,
    ],
    [
      'an event accepted under another’s id',
      (e) => (first(e.sent).answers[1] = { status: 200, id: 'evt_2', at: 1, code: null }),
      /I1: key-1 was accepted as evt_2/,
    ],
    [
      'a dead letter of a healthy destination',
      (e) => (first(e.deliveries).state = 'dead'),
      /I1: dlv_1 to signed ended dead/,
    ],
    [
      'a delivery that says it arrived',
      (e) => void e.arrivals.shift(),
      /I1: dlv_1 is delivered and never reached signed/,
    ],
    ['an event that nobody could route', (e) => (first(e.events).state = 'unroutable'), /I1: evt_1 ended unroutable/],
    [
      'a refused signature',
      (e) => first(e.sent).answers.push({ status: 401, id: null, at: 1, code: 'bad_signature' }),
      /I1: key-1, rightly signed, was answered 401/,
    ],
    [
      'a delivery that was never committed',
      (e) => void e.deliveries.shift(),
      /I2: dlv_1 came to signed and is not in the tables/,
    ],
    [
      'a delivery at another’s door',
      (e) => (first(e.arrivals).destination = 'plain'),
      /I2: dlv_1 for signed came to plain/,
    ],
    ['an event nobody sent', (e) => void e.sent.pop(), /I2: evt_2 holds what nobody sent/],
    ['two events of one key', (e) => e.events.push({ ...first(e.events), id: 'evt_9' }), /I3: key-1 became 2 events/],
    [
      'a delivery too few',
      (e) => void e.deliveries.splice(1, 1),
      /I3: evt_1 is wanted by even,signed and has deliveries to signed/,
    ],
    [
      'two deliveries of one event and connection',
      (e) => e.deliveries.push({ ...first(e.deliveries), id: 'dlv_9' }),
      /I3: evt_1 .* deliveries to even,signed,signed/,
    ],
    [
      'a repeat without a fault',
      (e) => e.arrivals.push({ ...first(e.arrivals), at: 9_500 }),
      /I4: dlv_1 was taken 2 times/,
    ],
    ['a changed byte', (e) => (first(e.arrivals).sha256 = 'other'), /I5: dlv_1 came with other bytes/],
    [
      'bytes that were changed before they were kept',
      (e) => (first(e.events).sha256 = 'other'),
      /I5: key-1 is kept with other bytes/,
    ],
    [
      'a forged signature',
      (e) => (first(e.arrivals).signed = false),
      /I5: dlv_1 came to signed under no valid signature/,
    ],
    [
      'an unfinished delivery that nothing wakes',
      (e) => Object.assign(first(e.deliveries), { state: 'pending', due: false }),
      /I6: dlv_1 is pending without a time to wake up/,
    ],
    [
      'an event that waits for ever',
      (e) => Object.assign(first(e.events), { state: 'accepted', due: false }),
      /I6: evt_1 is accepted without/,
    ],
    ['a round that never drained', (e) => (e.drainedMs = null), /I8: it did not drain/],
    [
      'another trace',
      (e) => (first(e.arrivals).trace = 'other'),
      /I9: dlv_1 came under trace other, sent under trace-1/,
    ],
    [
      'a Postgres that our SQL brings down',
      (e) => e.crashes.push('client backend (PID 1) was terminated by signal 11: Segmentation fault'),
      /crash: .*signal 11/,
    ],
    [
      'a service whose watchdog gave up',
      (e) => (e.deaths = ['router (exit 75)']),
      /crash: router \(exit 75\), by itself/,
    ],
    ['a service that eats the memory', (e) => (first(e.samples).rssMb['router'] = 5_000), /I10: router held more than/],
    ['a Redis that fills', (e) => (first(e.samples).redisMb = 500), /I10: Redis held more than/],
    [
      'admission without a bound',
      (e) => (first(e.samples).admitted = 60_000),
      /I10: more than 50000 deliveries were admitted/,
    ],
  ])('notice %s', (_what, lie, said) => {
    expect(saidOf(lie).join('\n')).toMatch(said)
  })
})

describe('a repeat', () => {
  const repeated = (faults: Evidence['faults'], times = 1) =>
    saidOf((evidence) => {
      evidence.faults = faults
      for (let n = 1; n <= times; n += 1) evidence.arrivals.push({ ...first(evidence.arrivals), at: 9_200 + n })
    })

  it('is explained by the death of the dispatcher that had it under way', () => {
    expect(repeated([kill])).toEqual([])
  })
  it('is not explained twice by one fault', () => {
    expect(repeated([kill], 2)).toEqual([expect.stringMatching(/^I4/)])
    expect(repeated([kill, { ...kill, target: 'dispatcher2' }], 2)).toEqual([])
  })
  it.each<[string, Evidence['faults'][number]]>([
    ['the death of a router', { ...kill, target: 'router' }],
    ['a death long after its answer', { ...kill, startMs: 60_000, healMs: 60_000, endMs: 60_000 }],
    ['a death before it was sent', { ...kill, startMs: 1_000, healMs: 1_000, endMs: 1_000 }],
    ['a wiped Redis', { ...kill, kind: 'redis-flush', target: 'redis' }],
    ['a finished job that came back', { ...kill, kind: 'redis-rewind', target: 'redis' }],
    ['a lost reply', { ...kill, kind: 'cut-commit', target: 'dispatcher → postgres' }],
  ])('is not explained by %s', (_what, fault) => {
    expect(repeated([fault])).toEqual([expect.stringMatching(/^I4: dlv_1 was taken 2 times/)])
  })
  it('is explained by a crash of Postgres that took the record of it', () => {
    const crash = {
      ...kill,
      kind: 'postgres-stop' as const,
      target: 'postgres',
      startMs: 12_000,
      healMs: 12_000,
      endMs: 12_500,
    }
    expect(repeated([crash])).toEqual([])
    expect(repeated([{ ...crash, startMs: 20_000, healMs: 20_000, endMs: 20_500 }])).toEqual([
      expect.stringMatching(/^I4/),
    ])
  })
  it('does not count when its first answer came too late to be taken', () => {
    expect(
      saidOf((evidence) => {
        first(evidence.arrivals).answered = false
        evidence.arrivals.push({ ...first(evidence.arrivals), answered: true, at: 9_500 })
      }),
    ).toEqual([])
  })
})

describe('recovery', () => {
  it('lasts until what had been accepted by the end of the fault has arrived', () => {
    const evidence = truth()
    const [recovery] = recoveries({ ...evidence, faults: [{ ...kill, healMs: 9_150 }] })
    expect(recovery?.lastMs).toBe(750)
  })
  it('is told apart for what is delivered in order', () => {
    const evidence = truth()
    const inOrder = { ...first(evidence.sent), key: 'held', wants: ['ordered' as const] }
    const arrivals = [
      ...evidence.arrivals,
      { ...first(evidence.arrivals), key: 'held', destination: 'ordered', at: 29_150 },
    ]
    const [recovery] = recoveries({ sent: [...evidence.sent, inOrder], arrivals, faults: [{ ...kill, healMs: 9_150 }] })
    expect(recovery).toMatchObject({ lastMs: 750, lastOrderedMs: 20_000 })
  })
  it('is over for good service when a second’s events are there in time', () => {
    const evidence = truth()
    const answers = [{ status: 200, id: 'evt_1', at: 7_500, code: null }]
    const late = { ...first(evidence.sent), key: 'late', at: 7_400, answers }
    const arrivals = [...evidence.arrivals, { ...first(evidence.arrivals), key: 'late', at: 9_900 }]
    const faults = [{ ...kill, healMs: 7_600 }]
    expect(recoveries({ sent: [late, ...evidence.sent], arrivals, faults })[0]?.normalMs).toBe(1_400)
    // Nothing at all was accepted in the two seconds before the first: that is not good service either.
    expect(recoveries({ ...evidence, faults })[0]?.normalMs).toBe(1_400)
  })
  it('takes no time when nothing was waiting', () => {
    const [recovery] = recoveries({ ...truth(), faults: [{ ...kill, healMs: 30_000 }] })
    expect(recovery).toMatchObject({ normalMs: 0, lastMs: 0 })
  })
})

describe('Postgres’s own words', () => {
  const segfault = 'LOG:  client backend (PID 7) was terminated by signal 11: Segmentation fault'
  const abort = 'LOG:  client backend (PID 7) was terminated by signal 6: Aborted'
  const kill = 'LOG:  client backend (PID 7) was terminated by signal 9: Killed'
  const full = 'PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device'

  it('tell of a backend that our SQL brought down, and not of one that the plan killed or that had no room', () => {
    expect(crashesIn([kill, segfault].join('\n'))).toEqual([segfault])
    expect(crashesIn([full, abort, kill].join('\n'))).toEqual([])
    expect(crashesIn([full, abort, abort].join('\n'))).toEqual([abort])
  })
})
