import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createSeen } from './seen.ts'

it('tells a first sight from a second, as a Set does, whatever the order and the distance', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 7_999_999 })), { maxLength: 200 }), (numbers) => {
      const seen = createSeen()
      const set = new Set<number>()
      for (const number of numbers) {
        expect(seen.add(number)).toBe(!set.has(number))
        set.add(number)
      }
    }),
  )
})
