import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { newId, type EventId, type SourceId } from '@tenterhook/schemas/ids'
import type { Acceptance, NewEvent } from '@tenterhook/store/accept'
import { createGroupCommit, groupCommitLimits, type CommitConnection, type GroupCommitLimits } from './group-commit.ts'

const sha = (text: string) => createHash('sha256').update(text).digest()
const sourceId = 'src_x' as SourceId

function event(key?: string, body = 'x'): NewEvent {
  return {
    id: newId('evt', Date.now()),
    sourceId,
    sourceVersion: 1,
    keyHash: key === undefined ? null : sha(key),
    bodyHash: key === undefined ? null : sha(body),
    dedupeWindowMs: 1,
    type: null,
    method: 'POST',
    path: '',
    query: '',
    headers: '[]',
    body: Buffer.from(body),
    traceparent: null,
    remoteAddress: null,
    receivedAtMs: 0,
  }
}

/** A commit that ends when the test says so. */
function controlled() {
  const batches: {
    rows: readonly NewEvent[]
    resolve: (acceptances?: Acceptance[]) => void
    reject: (error: Error) => void
  }[] = []
  return {
    batches,
    commit: (rows: readonly NewEvent[]) =>
      new Promise<Acceptance[]>((resolve, reject) =>
        batches.push({
          rows,
          resolve: (acceptances) => resolve(acceptances ?? rows.map(() => ({ kind: 'accepted' }))),
          reject,
        }),
      ),
  }
}

function create(
  commit: (rows: readonly NewEvent[]) => Promise<Acceptance[]>,
  limits: Partial<GroupCommitLimits> = {},
  {
    connect = async () => ({ commit, close: () => {} }),
    onCommitFailed = () => {},
  }: { connect?: () => Promise<CommitConnection>; onCommitFailed?: (error: unknown, rows: number) => void } = {},
) {
  return createGroupCommit({
    connect,
    isRowError: (error) => error instanceof Error && error.message === 'row',
    onCommitFailed,
    onBatch: () => {},
    beforeCommit: () => {},
    monotonicMs: () => performance.now(),
    limits: { ...groupCommitLimits, ...limits },
  })
}
const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('group commit', () => {
  test('sends at once when idle, and what waits goes together when that is done', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const first = group.submit(event())
    await turn()
    const rest = [event(), event(), event()].map((one) => group.submit(one))
    await turn()
    expect(batches.map((batch) => batch.rows.length)).toEqual([1])
    batches[0]?.resolve()
    expect(await first).toEqual({ kind: 'accepted' })
    await turn()
    expect(batches.map((batch) => batch.rows.length)).toEqual([1, 3])
    batches[1]?.resolve()
    expect(await Promise.all(rest)).toEqual(Array.from({ length: 3 }, () => ({ kind: 'accepted' })))
  })

  test('a second batch goes beside the first when many wait, a third never', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    for (const count of [1, 20, 20]) {
      for (let i = 0; i < count; i++) void group.submit(event())
      await turn()
    }
    expect(batches.map((batch) => batch.rows.length)).toEqual([1, 20])
    batches[0]?.resolve()
    await turn()
    await turn()
    expect(batches.map((batch) => batch.rows.length)).toEqual([1, 20, 20])
  })

  test('bounds a batch by rows and by bytes', async () => {
    const { commit, batches } = controlled()
    const group = create(commit, { batchRowsMax: 3 })
    for (let i = 0; i < 4; i++) void group.submit(event())
    await turn()
    expect(batches.map((batch) => batch.rows.length)).toEqual([3])
    const { commit: commit2, batches: batches2 } = controlled()
    const byBytes = create(commit2, { batchBytesMax: 10 })
    for (const body of ['1234', '1234', '1234', '12345678901234']) void byBytes.submit(event(undefined, body))
    for (let i = 0; i < 3; i++) {
      await turn()
      batches2[i]?.resolve()
      await turn()
    }
    expect(batches2.map((batch) => batch.rows.length)).toEqual([2, 1, 1])
  })

  test('nothing is accepted when the commit fails or its outcome is unknown, and nothing is retried', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const both = [group.submit(event()), group.submit(event())]
    await turn()
    batches[0]?.reject(new Error('connection lost'))
    expect(await Promise.all(both)).toEqual(
      Array.from({ length: 2 }, () => ({ kind: 'unavailable', reason: 'commit_failed' })),
    )
    await turn()
    expect(batches).toHaveLength(1)
  })

  test('a row that Postgres refuses is found by halving, and the others are accepted', async () => {
    const bad = event(undefined, 'bad')
    const sizes: number[] = []
    const group = create(async (rows) => {
      sizes.push(rows.length)
      if (rows.includes(bad)) throw new Error('row')
      return rows.map(() => ({ kind: 'accepted' }))
    })
    const outcomes = await Promise.all([event(), event(), bad, event()].map((one) => group.submit(one)))
    expect(outcomes.map((outcome) => outcome.kind)).toEqual(['accepted', 'accepted', 'refused', 'accepted'])
    expect(sizes).toEqual([4, 2, 2, 1, 1])
  })

  test('equal keys of a batch are folded: one row, and the others answer after its commit, with its id', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const [first, same, other] = [event('k', 'a'), event('k', 'a'), event('k', 'b')]
    const outcomes = Promise.all([group.submit(first), group.submit(same), group.submit(other)])
    await turn()
    expect(batches[0]?.rows).toEqual([first])
    batches[0]?.resolve()
    expect(await outcomes).toEqual([
      { kind: 'accepted' },
      { kind: 'duplicate', firstId: first.id, differs: false },
      { kind: 'duplicate', firstId: first.id, differs: true },
    ])
  })

  test('a folded copy of a failed commit is not a duplicate of anything', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const outcomes = Promise.all([group.submit(event('k')), group.submit(event('k'))])
    await turn()
    batches[0]?.reject(new Error('gone'))
    expect(await outcomes).toEqual(Array.from({ length: 2 }, () => ({ kind: 'unavailable', reason: 'commit_failed' })))
  })

  test('a folded copy of a duplicate is compared with the very first', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const firstId = 'evt_first' as EventId
    const outcomes = Promise.all([group.submit(event('k', 'b')), group.submit(event('k', 'a'))])
    await turn()
    batches[0]?.resolve([{ kind: 'duplicate', firstId, firstBodyHash: sha('a') }])
    expect(await outcomes).toEqual([
      { kind: 'duplicate', firstId, differs: true },
      { kind: 'duplicate', firstId, differs: false },
    ])
  })

  test('what was not sent in time leaves the buffer, what was sent does not', async () => {
    const { commit, batches } = controlled()
    const group = create(commit, { acceptTimeoutMs: 30, batchRowsMax: 1 })
    const outcomes = [event(), event(), event()].map((one) => group.submit(one))
    expect(await Promise.all(outcomes.slice(1))).toEqual(
      Array.from({ length: 2 }, () => ({ kind: 'unavailable', reason: 'waited_too_long' })),
    )
    expect(batches).toHaveLength(1)
    for (const batch of batches) batch.resolve()
    expect(await Promise.all(outcomes.slice(0, 1))).toEqual([{ kind: 'accepted' }])
  })

  test('what comes while a batch hangs leaves in time as well', async () => {
    const { commit } = controlled()
    const group = create(commit, { acceptTimeoutMs: 30 })
    void group.submit(event())
    await turn()
    const later = [group.submit(event())]
    await turn()
    later.push(group.submit(event()))
    expect(await Promise.all(later)).toEqual(
      Array.from({ length: 2 }, () => ({ kind: 'unavailable', reason: 'waited_too_long' })),
    )
    expect(await group.submit(event())).toEqual({ kind: 'unavailable', reason: 'waited_too_long' })
  })

  test('what waits for a connection that does not come leaves in time, and nothing of it is sent when it comes', async () => {
    const { commit, batches } = controlled()
    const connection = Promise.withResolvers<CommitConnection>()
    let asked = 0
    let closed = 0
    const connect = () => {
      asked += 1
      return connection.promise
    }
    const group = create(commit, { acceptTimeoutMs: 30 }, { connect })
    const outcomes = Array.from({ length: 40 }, () => group.submit(event()))
    expect(await Promise.all(outcomes)).toEqual(
      Array.from({ length: 40 }, () => ({ kind: 'unavailable', reason: 'waited_too_long' })),
    )
    expect(asked).toBe(1)
    const later = group.submit(event('later'))
    connection.resolve({ commit, close: () => (closed += 1) })
    await turn()
    expect(batches.map(({ rows }) => rows.length)).toEqual([1])
    batches[0]?.resolve()
    expect(await later).toEqual({ kind: 'accepted' })
    expect(closed).toBe(1)
  })

  test('a Postgres that refuses connections is told to everybody at once, a batch at a time', async () => {
    const failures: number[] = []
    const refuse = async () => {
      throw new Error('ECONNREFUSED')
    }
    const { commit, batches } = controlled()
    const group = create(
      commit,
      { batchRowsMax: 3 },
      { connect: refuse, onCommitFailed: (_error, rows) => failures.push(rows) },
    )
    const outcomes = Array.from({ length: 7 }, () => group.submit(event()))
    expect(await Promise.all(outcomes)).toEqual(
      Array.from({ length: 7 }, () => ({ kind: 'unavailable', reason: 'commit_failed' })),
    )
    expect(failures).toEqual([3, 3, 1])
    expect(batches).toEqual([])
  })

  test('a connection that failed is closed and tells nothing about rows it was not asked about', async () => {
    const bad = event(undefined, 'bad')
    const closed: unknown[] = []
    const lost = new Error('connection lost')
    const commit = async (rows: readonly NewEvent[]): Promise<Acceptance[]> => {
      if (rows.length === 4) throw new Error('row')
      throw lost
    }
    const group = create(commit, {}, { connect: async () => ({ commit, close: (error) => closed.push(error) }) })
    const outcomes = await Promise.all([event(), bad, event(), event()].map((one) => group.submit(one)))
    expect(outcomes).toEqual(Array.from({ length: 4 }, () => ({ kind: 'unavailable', reason: 'commit_failed' })))
    expect(closed).toEqual([lost])
  })

  test('a full buffer refuses at once', async () => {
    const { commit } = controlled()
    const group = create(commit, { waitingRowsMax: 2 })
    void group.submit(event())
    void group.submit(event())
    expect(await group.submit(event())).toEqual({ kind: 'unavailable', reason: 'buffer_full' })
  })

  test('stop commits what was submitted and takes nothing more', async () => {
    const { commit, batches } = controlled()
    const group = create(commit)
    const held = group.submit(event())
    let stopped = false
    const stopping = group.stop().then(() => (stopped = true))
    expect(await group.submit(event())).toEqual({ kind: 'unavailable', reason: 'stopping' })
    await turn()
    expect(stopped).toBe(false)
    batches[0]?.resolve()
    await stopping
    expect(await held).toEqual({ kind: 'accepted' })
  })
})
