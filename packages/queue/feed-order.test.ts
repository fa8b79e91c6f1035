import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFeedOrder, quantum, type Wanting } from './feed-order.ts'

const destination = (id: string, tenant = ''): Wanting => ({ id, tenant })
const many = (n: number, tenant: string) => Array.from({ length: n }, (_, i) => destination(`${tenant}${i}`, tenant))

function orderOf(...wanting: readonly Wanting[]) {
  const order = createFeedOrder()
  for (const one of wanting) order.add(one)
  return order
}

describe('the order of feeding', () => {
  it('is that of requests within a tenant, each destination once', () => {
    const order = orderOf(destination('a'), destination('b'), destination('a'), destination('c'))
    expect(order.size()).toBe(3)
    expect([order.next(), order.next(), order.next(), order.next()].map((one) => one?.id)).toEqual([
      'a',
      'b',
      'c',
      undefined,
    ])
  })

  it('takes tenants in turn: one with 10,000 destinations delays one that comes later by no more than its turn', () => {
    const order = orderOf(...many(10_000, 'big'))
    for (let i = 0; i < 10; i++) order.next()
    order.add(destination('small', 'small'))
    const next = [order.next(), order.next()]
    expect(next.map((one) => one?.tenant)).toContain('small')
  })

  it('puts a destination with a million waiting behind all others of its tenant after each quantum', () => {
    const order = orderOf(destination('backlog'), ...many(3, ''))
    const served: string[] = []
    for (let i = 0; i < 8; i++) {
      const one = order.next()
      if (one === undefined) break
      served.push(one.id)
      order.add(one) // each of them has more
      order.charge('', one.id === 'backlog' ? quantum : 1)
    }
    expect(served).toEqual(['backlog', '0', '1', '2', 'backlog', '0', '1', '2'])
  })

  it('lets a tenant that took its quantum sit out until others, with one delivery each, have had as much', () => {
    const order = orderOf(destination('backlog', 'big'), ...many(1_000, 'small'))
    const taken = { big: 0, small: 0 }
    while (taken.small < 450) {
      const one = order.next() ?? expect.unreachable()
      const deliveries = one.tenant === 'big' ? quantum : 1
      if (one.tenant === 'big') order.add(one)
      order.charge(one.tenant, deliveries)
      taken[one.tenant === 'big' ? 'big' : 'small'] += deliveries
      expect(Math.abs(taken.big - taken.small)).toBeLessThanOrEqual(2 * quantum)
    }
  })

  it('serves who is alone as often as it asks, whatever it took', () => {
    const order = createFeedOrder()
    for (let i = 0; i < 50; i++) {
      order.add(destination('a', 'alone'))
      expect(order.next()).toEqual(destination('a', 'alone'))
      order.add(destination('a', 'alone'))
      order.charge('alone', 64 * quantum)
      expect(order.next()).toEqual(destination('a', 'alone'))
    }
  })

  it('forgets nobody and invents nobody, and makes nobody wait for more than two turns of each other tenant', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), id: fc.nat(30), tenant: fc.nat(5) }),
      fc.record({ kind: fc.constant('next' as const), took: fc.nat(3 * quantum), more: fc.boolean() }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const order = createFeedOrder()
        const waiting = new Map<string, string>()
        for (const each of steps) {
          if (each.kind === 'add') {
            const one = destination(`${each.tenant}.${each.id}`, `t${each.tenant}`)
            order.add(one)
            waiting.set(one.id, one.tenant)
          } else {
            const one = order.next()
            expect(one === undefined).toBe(waiting.size === 0)
            if (one === undefined) continue
            expect(waiting.get(one.id)).toBe(one.tenant)
            waiting.delete(one.id)
            if (each.more) {
              order.add(one)
              waiting.set(one.id, one.tenant)
            }
            order.charge(one.tenant, each.took)
          }
          expect(order.size()).toBe(waiting.size)
          for (const id of waiting.keys()) expect(order.has(id)).toBe(true)
        }
        const tenants = new Set(waiting.values())
        const firstTurn = new Map<string, number>()
        for (let turn = 0; waiting.size > 0; turn++) {
          const one = order.next() ?? expect.unreachable()
          waiting.delete(one.id)
          if (!firstTurn.has(one.tenant)) firstTurn.set(one.tenant, turn)
          order.charge(one.tenant, quantum)
        }
        for (const turn of firstTurn.values()) expect(turn).toBeLessThan(2 * tenants.size)
        expect(order.next()).toBeUndefined()
      }),
      { numRuns: 300 },
    )
  })
})
