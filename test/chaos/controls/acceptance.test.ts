import type { Store } from '@tenterhook/store/connect'
import { expect } from 'vitest'
import { acceptedAs } from '../../support/load.ts'
import type { Sent } from '../../support/load.ts'
import { metricOf } from '../../support/metrics.ts'
import { until } from '../../support/poll.ts'
import { provesControls } from './control.ts'
import type { Control, World } from './control.ts'
import { breakSessions, holdAsynchronousCommits, holdTable, untilLocked } from './postgres.ts'

const ingestSessions = 'tenterhook-ingest'
const groupCommit = 'services/ingest/group-commit.ts'

/** A commit that takes long, and fails because everything does: ingest is killed, its transaction is rolled back. */
async function failsWhileCommitting({ stack, sender, start }: World, copies: number): Promise<void> {
  await Promise.all([start('router'), start('dispatcher')])
  const ingest = await start('ingest')
  await using keys = await holdTable(stack.databaseUrl, 'dedupe')
  const one = sender.newEvent()
  const answers = [sender.send(one)]
  await untilLocked(stack.store, ingestSessions)
  const before = await metricOf(ingest, 'tenterhook_buffered_bytes')
  for (let copy = 2; copy <= copies; copy++) {
    answers.push(sender.send(one))
    await until(async () => one.answers.length > 0 || (await metricOf(ingest, 'tenterhook_buffered_bytes')) > before, {
      what: 'the copy to have come',
    })
  }
  await ingest.kill('SIGKILL')
  await breakSessions(stack.store, ingestSessions)
  await keys.letGo()
  await Promise.all(answers)
  await start('ingest')
  await sender.resend()
}

const controls: Control[] = [
  {
    name: 'answered before COMMIT',
    broken: {
      ingest: {
        texts: [
          {
            module: groupCommit,
            find: 'commit(connection, leaders)',
            replace: `(leaders.forEach((leader) => leader.settle({ kind: 'accepted' })), commit(connection, leaders))`,
          },
        ],
      },
    },
    scenario: (world) => failsWhileCommitting(world, 1),
    caught: /I1: \S+ was accepted as evt_\w+, and the tables have undefined/,
  },
  {
    name: 'committed asynchronously',
    broken: {
      ingest: {
        texts: [
          {
            module: 'packages/store/connect.ts',
            find: `synchronous_commit: 'on'`,
            replace: `synchronous_commit: 'off'`,
          },
        ],
        env: { TENTERHOOK_ALLOW_UNSAFE_POSTGRES: 'true' },
      },
    },
    async scenario({ stack, sender, start }) {
      await start('ingest')
      await using commits = await holdAsynchronousCommits(stack.store)
      await sender.send()
      await commits.crash()
      await Promise.all([start('router'), start('dispatcher')])
      await sender.resend()
    },
    caught: /I1: \S+ was accepted as evt_\w+, and the tables have undefined/,
  },
  {
    name: 'an unknown COMMIT answered 2xx',
    broken: {
      ingest: {
        texts: [
          {
            module: groupCommit,
            find: '[one, failed]), failure: error',
            replace: `[one, { kind: 'accepted' }]), failure: error`,
          },
        ],
      },
    },
    async scenario({ stack, sender, start }) {
      await Promise.all([start('router'), start('dispatcher'), start('ingest')])
      await using keys = await holdTable(stack.databaseUrl, 'dedupe')
      const answered = sender.send()
      await untilLocked(stack.store, ingestSessions)
      await breakSessions(stack.store, ingestSessions)
      await keys.letGo()
      await answered
      await sender.resend()
    },
    caught: /I1: \S+ was accepted as evt_\w+, and the tables have undefined/,
  },
  {
    name: 'dedupe in memory, before the COMMIT',
    broken: {
      ingest: {
        texts: [
          {
            module: groupCommit,
            find: 'function submit(event: NewEvent): Promise<CommitOutcome> {',
            replace: `const claimed = new Map()
              function submit(event: NewEvent): Promise<CommitOutcome> {
                const key = event.keyHash?.toString('base64')
                const firstId = claimed.get(key)
                if (firstId !== undefined) return Promise.resolve({ kind: 'duplicate', firstId, differs: false })
                claimed.set(key, event.id)`,
          },
        ],
      },
    },
    scenario: (world) => failsWhileCommitting(world, 2),
    caught: /I1: \S+ was accepted as evt_\w+, and the tables have undefined/,
  },
  {
    name: 'batches not sorted by key',
    broken: { functions: [{ name: 'accept_v1', find: 'ORDER BY r.s, r.k', replace: '' }] },
    async scenario({ stack, sender, start }) {
      const [first, second] = await Promise.all([start('ingest'), start('ingest2')])
      await Promise.all([start('router'), start('dispatcher')])
      await using _slow = await slowKeys(stack.store)
      await using keys = await holdTable(stack.databaseUrl, 'dedupe')
      // A batch under way at each copy, behind which the next one gathers.
      const answers = [sender.send(sender.newEvent(), first.url), sender.send(sender.newEvent(), second.url)]
      await untilLocked(stack.store, ingestSessions, 2)
      const [a, b] = [sender.newEvent(), sender.newEvent()]
      for (const [one, { url }] of [
        [a, first],
        [b, first],
        [b, second],
        [a, second],
      ] as const) {
        const copy = url === first.url ? first : second
        const before = await metricOf(copy, 'tenterhook_buffered_bytes')
        answers.push(sender.send(one, url))
        await until(async () => (await metricOf(copy, 'tenterhook_buffered_bytes')) > before, {
          what: 'the event to have come',
        })
      }
      await keys.letGo()
      await Promise.all(answers)
      nobodyRefused(sender.sent)
    },
    caught: /refused while nothing was wrong: 503 commit_failed/,
  },
  {
    name: 'keys claimed and winners read in one statement',
    broken: {
      functions: [
        { name: 'accept_v1', find: 'IF EXISTS (', replace: 'IF false AND EXISTS (' },
        {
          name: 'accept_v1',
          find: 'WITH r AS MATERIALIZED (',
          replace: `WITH claimed AS (
              INSERT INTO dedupe AS d (source_id, key_hash, event_id, body_hash, expires_at)
              SELECT k.s, k.k, k.e, k.b, clock() + k.w * interval '1 millisecond'
              FROM unnest(source_ids, key_hashes, ids, body_hashes, windows_ms) AS k(s, k, e, b, w) WHERE k.k IS NOT NULL ORDER BY k.s, k.k
              ON CONFLICT (source_id, key_hash) DO NOTHING RETURNING *),
            winners AS (SELECT * FROM dedupe UNION SELECT * FROM claimed),
            r AS MATERIALIZED (`,
        },
        { name: 'accept_v1', find: 'LEFT JOIN dedupe d ON', replace: 'LEFT JOIN winners d ON' },
      ],
    },
    async scenario({ stack, sender, start }) {
      const copies = await Promise.all([start('ingest'), start('ingest2')])
      await Promise.all([start('router'), start('dispatcher')])
      // One alone is accepted: what is refused below isn't because nothing works.
      const alone = sender.newEvent()
      await sender.send(alone)
      expect(acceptedAs(alone)).toBeDefined()
      const one = sender.newEvent()
      await using _slow = await slowKeys(stack.store)
      await Promise.all(copies.map(({ url }) => sender.send(one, url)))
      nobodyRefused(sender.sent)
    },
    caught: /refused while nothing was wrong: 503 commit_failed/,
  },
  {
    name: 'the order of acceptance from a sequence that copies cache',
    broken: {
      statement: {
        change: 'ALTER SEQUENCE event_seq CACHE 10',
        restore: 'ALTER SEQUENCE event_seq CACHE 1',
      },
    },
    async scenario({ stack, sender, start }) {
      const copies = await Promise.all([start('ingest'), start('ingest2')])
      await Promise.all([start('router'), start('dispatcher')])
      for (let round = 0; round < 3; round++) for (const { url } of copies) await sender.send(sender.newEvent(), url)
      await inOrderOfAcceptance(stack.store, sender.sent)
    },
    caught: /was answered before evt_\w+ was sent, and comes after it/,
  },
]

/** Of events each sent when the one before had its 2xx. */
async function inOrderOfAcceptance({ durable }: Store, sent: readonly Sent[]): Promise<void> {
  const { rows } = await durable.query<{ id: string }>('SELECT id FROM events ORDER BY seq')
  const ids = sent.map((one) => acceptedAs(one))
  const places = ids.map((id) => rows.findIndex((row) => row.id === id))
  for (const [i, place] of places.entries())
    if (place < (places[i - 1] ?? -1))
      throw new Error(`${ids[i - 1]} was answered before ${ids[i]} was sent, and comes after it`)
}

/** Two batches that claim their keys at the same time take each key after a while, so that they are sure to meet. */
async function slowKeys({ durable }: Store): Promise<AsyncDisposable> {
  await durable.query(`CREATE FUNCTION take_a_while() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END'`)
  await durable.query('CREATE TRIGGER slow BEFORE INSERT ON dedupe FOR EACH ROW EXECUTE FUNCTION take_a_while()')
  return { [Symbol.asyncDispose]: async () => void (await durable.query('DROP FUNCTION take_a_while CASCADE')) }
}

function nobodyRefused(sent: readonly Sent[]): void {
  for (const answer of sent.flatMap(({ answers }) => answers))
    if (answer === 'broken' || answer.status !== 200)
      throw new Error(
        `a sender was refused while nothing was wrong: ${answer === 'broken' ? answer : `${answer.status} ${answer.code}`}`,
      )
}

provesControls({ services: ['ingest', 'ingest', 'router', 'dispatcher'], postgres: 'own', controls })
