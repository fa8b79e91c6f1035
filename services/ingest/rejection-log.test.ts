import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { NewRejection } from '@tenterhook/store/rejections'
import { createRejectionLog, rowsHeldMax } from './rejection-log.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const second = () => vi.advanceTimersByTimeAsync(1_000)

/** A log whose writes end when the test says so. */
function create() {
  const writes: { rows: readonly NewRejection[]; done: PromiseWithResolvers<void> }[] = []
  const said: { lost: number; error: unknown }[] = []
  const log = createRejectionLog({
    write: (rows) => {
      const done = Promise.withResolvers<void>()
      writes.push({ rows, done })
      return done.promise
    },
    onLost: (lost, error) => said.push({ lost, error }),
    nowMs: () => 0,
  })
  const reject = (code: string, times = 1) => {
    for (let n = 0; n < times; n++) {
      log.record({
        sourceName: 'hub',
        sourceId: null,
        code,
        status: 401,
        detail: '',
        method: 'POST',
        path: '',
        remoteAddress: null,
        bodyBytes: 0,
      })
    }
  }
  return { log, writes, said, reject }
}

const requestsIn = (rows: readonly NewRejection[]) => rows.reduce((count, row) => count + 1 + row.folded, 0)

test('a flood of one kind is five rows a second, which say how many they stand for', async () => {
  const { log, writes, said, reject } = create()
  reject('signature_wrong', 1_000)
  await second()
  expect(writes.map(({ rows }) => [rows.length, requestsIn(rows)])).toEqual([[5, 1_000]])
  writes[0]?.done.resolve()
  reject('signature_wrong', 2)
  await second()
  expect(writes[1]?.rows).toHaveLength(2)
  writes[1]?.done.resolve()
  await log.stop()
  expect(said).toEqual([])
})

test('while a write hangs no other is begun, what waits is bounded, and the rest is counted', async () => {
  const { log, writes, said, reject } = create()
  for (let seconds = 0; seconds < 60; seconds++) {
    for (let kind = 0; kind < 20; kind++) reject(`code_${kind}`, 10)
    await second()
  }
  expect(writes).toHaveLength(1)
  const first = requestsIn(writes[0]?.rows ?? [])
  writes[0]?.done.resolve()
  await second()
  expect(writes).toHaveLength(2)
  const rows = writes[1]?.rows ?? []
  expect(rows).toHaveLength(rowsHeldMax)
  // Not one was forgotten: written, or said to be lost.
  expect(said).toEqual([{ lost: 60 * 200 - first - requestsIn(rows), error: undefined }])
  writes[1]?.done.resolve()
  await log.stop()
  expect(writes).toHaveLength(2)
})

test('a write that fails is not repeated; what it held is counted', async () => {
  const { log, writes, said, reject } = create()
  reject('signature_wrong', 7)
  await second()
  const error = new Error('down')
  writes[0]?.done.reject(error)
  await second()
  expect(said).toEqual([{ lost: 7, error }])
  reject('signature_wrong')
  await second()
  expect(writes[1]?.rows).toHaveLength(1)
  writes[1]?.done.resolve()
  await second()
  expect(said).toHaveLength(1)
  await log.stop()
})

test('a stop writes what is held, after the write under way', async () => {
  const { log, writes, reject } = create()
  reject('first')
  await second()
  reject('second')
  const stopped = log.stop()
  await vi.advanceTimersByTimeAsync(0)
  expect(writes).toHaveLength(1)
  writes[0]?.done.resolve()
  await vi.advanceTimersByTimeAsync(0)
  expect(writes[1]?.rows).toMatchObject([{ code: 'second' }])
  writes[1]?.done.resolve()
  await stopped
})
