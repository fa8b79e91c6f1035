import { describe, expect, test } from 'vitest'
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { AttemptResult, Recorded } from '@tenterhook/store/results'
import { createResults } from './results.ts'

const result = (n: number, token = 'a') => ({ id: `dlv_${n}` as DeliveryId, token }) as AttemptResult
const recordedOf = (one: AttemptResult): Recorded => ({
  id: one.id,
  destinationId: 'dst_1' as DestinationId,
  state: 'delivered',
})

describe('recording results', () => {
  test('two results of one delivery never go in one statement', async () => {
    const batches: string[][] = []
    const results = createResults({
      record: async (batch) => {
        batches.push(batch.map((one) => `${one.id}${one.token}`))
        return batch.map(recordedOf)
      },
      onFailed: () => {},
    })
    await Promise.all([result(1, 'a'), result(1, 'b'), result(2, 'a')].map((one) => results.record(one)))
    expect(batches.map((batch) => batch.toSorted())).toEqual([['dlv_1a', 'dlv_2a'], ['dlv_1b']])
  })

  test('a result is kept and tried again until Postgres has it', async () => {
    let failures = 2
    const results = createResults({
      record: async (batch) => {
        if (failures-- > 0) throw new Error('down')
        return batch.map(recordedOf)
      },
      onFailed: () => {},
    })
    expect(await results.record(result(1))).toMatchObject({ state: 'delivered' })
    expect(failures).toBe(-1)
  })

  test('a result that changed nothing says so', async () => {
    const results = createResults({ record: async () => [], onFailed: () => {} })
    expect(await results.record(result(1))).toBeUndefined()
  })

  test('stop waits for what is held, and no longer than its signal', async () => {
    const write = Promise.withResolvers<Recorded[]>()
    const results = createResults({ record: () => write.promise, onFailed: () => {} })
    const recorded = results.record(result(1))
    let stopped = false
    const stopping = results.stop(new AbortController().signal).then(() => (stopped = true))
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(stopped).toBe(false)
    write.resolve([recordedOf(result(1))])
    await stopping
    expect(await recorded).toMatchObject({ state: 'delivered' })

    const stuck = createResults({ record: () => new Promise(() => {}), onFailed: () => {} })
    void stuck.record(result(2))
    await new Promise((resolve) => setImmediate(resolve))
    await stuck.stop(AbortSignal.timeout(20))
  })
})
