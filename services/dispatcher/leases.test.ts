import { describe, expect, test } from 'vitest'
import type { DeliveryId } from '@tenterhook/schemas/ids'
import type { Leased } from '@tenterhook/store/lease'
import { createLeases } from './leases.ts'

const id = (n: number) => `dlv_${n}` as DeliveryId
const leasedUnder = (wish: { id: DeliveryId; token: string }) => ({ id: wish.id, token: wish.token }) as Leased

describe('asking for leases', () => {
  test('wishes of one turn go in one statement, and each gets its own answer', async () => {
    const calls: number[] = []
    const leases = createLeases(async (wanted) => {
      calls.push(wanted.length)
      return wanted.filter((wish) => wish.id !== id(1)).map(leasedUnder)
    })
    const answers = await Promise.all([0, 1, 2].map((n) => leases.take(id(n), 1)))
    expect(calls).toEqual([3])
    expect(answers.map((one) => one?.id)).toEqual([id(0), undefined, id(2)])
  })

  test('a delivery that is asked for twice at once is leased once', async () => {
    const leases = createLeases(async (wanted) => wanted.map(leasedUnder))
    const answers = await Promise.all([leases.take(id(1), 1), leases.take(id(1), 1)])
    expect(answers.filter((one) => one !== undefined)).toHaveLength(1)
    expect(await leases.take(id(1), 1)).toBeDefined()
  })

  test('when Postgres can not say, every wish of the batch is refused, and the next is asked anew', async () => {
    let broken = true
    const leases = createLeases(async (wanted) => {
      if (broken) throw new Error('connection lost')
      return wanted.map(leasedUnder)
    })
    const answers = await Promise.allSettled([leases.take(id(1), 1), leases.take(id(2), 1)])
    expect(answers.map((one) => one.status)).toEqual(['rejected', 'rejected'])
    broken = false
    expect(await leases.take(id(1), 1)).toBeDefined()
  })

  test('an answer under another token is nobody’s', async () => {
    const leases = createLeases(async (wanted) => wanted.map((wish) => leasedUnder({ id: wish.id, token: 'another' })))
    expect(await leases.take(id(1), 1)).toBeUndefined()
  })
})
