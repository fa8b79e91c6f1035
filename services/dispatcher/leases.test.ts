import { describe, expect, test } from 'vitest'
import type { DeliveryId, DestinationId } from '@tenterhook/schemas/ids'
import type { Leased } from '@tenterhook/store/lease'
import { createLeases, type LeaseAnswer } from './leases.ts'

const id = (n: number) => `dlv_${n}` as DeliveryId
type Wish = { id: DeliveryId; generation: number; token: string }
const leasedUnder = (wish: Wish) => ({ id: wish.id, token: wish.token }) as Leased
const grantAll = async (wanted: readonly Wish[]) => ({ leased: wanted.map(leasedUnder), refused: [] })
const idIn = (answer: LeaseAnswer) => (answer.kind === 'leased' ? answer.leased.id : answer.kind)

describe('asking for leases', () => {
  test('wishes of one turn go in one statement, and each gets its own answer', async () => {
    const calls: number[] = []
    const leases = createLeases(async (wanted) => {
      calls.push(wanted.length)
      return grantAll(wanted.filter((wish) => wish.id !== id(1)))
    })
    const answers = await Promise.all([0, 1, 2].map((n) => leases.take(id(n), 1)))
    expect(calls).toEqual([3])
    expect(answers.map(idIn)).toEqual([id(0), 'stale', id(2)])
  })

  test('who is refused is told how long to wait, of the very admission that was asked for', async () => {
    const refusal = { destinationId: 'dst_1' as DestinationId, waitMs: 40 }
    const leases = createLeases(async (wanted) => ({
      ...(await grantAll(wanted.filter((wish) => wish.id === id(0)))),
      refused: [
        { id: id(1), generation: 2, ...refusal },
        { id: id(2), generation: 1, ...refusal, waitMs: null },
        { id: id(3), generation: 9, ...refusal },
      ],
    }))
    const asked = [leases.take(id(0), 1), leases.take(id(1), 2), leases.take(id(2), 1), leases.take(id(3), 1)]
    expect((await Promise.all(asked)).map((one) => (one.kind === 'refused' ? one.waitMs : idIn(one)))).toEqual([
      id(0),
      40,
      null,
      'stale',
    ])
  })

  test('a delivery that is asked for twice at once is leased once', async () => {
    const leases = createLeases(grantAll)
    const answers = await Promise.all([leases.take(id(1), 1), leases.take(id(1), 1)])
    expect(answers.map(idIn)).toEqual([id(1), 'stale'])
    expect(idIn(await leases.take(id(1), 1))).toBe(id(1))
  })

  test('when Postgres can not say, every wish of the batch is refused, and the next is asked anew', async () => {
    let broken = true
    const leases = createLeases(async (wanted) => {
      if (broken) throw new Error('connection lost')
      return grantAll(wanted)
    })
    const answers = await Promise.allSettled([leases.take(id(1), 1), leases.take(id(2), 1)])
    expect(answers.map((one) => one.status)).toEqual(['rejected', 'rejected'])
    broken = false
    expect(idIn(await leases.take(id(1), 1))).toBe(id(1))
  })

  test('an answer under another token is nobody’s', async () => {
    const leases = createLeases((wanted) => grantAll(wanted.map((wish) => ({ ...wish, token: 'another' }))))
    expect(await leases.take(id(1), 1)).toEqual({ kind: 'stale' })
  })
})
