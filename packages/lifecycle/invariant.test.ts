import { expect, test } from 'vitest'
import { InvariantError, invariant } from './invariant.ts'

test('what holds passes, and is known to hold from there on', () => {
  const found: string | undefined = ['a'].at(0)
  invariant(found, 'there is a first')
  expect(found.length).toBe(1)
})

test('what does not hold throws, with what should have held', () => {
  expect(() => invariant(false, 'a lease has a token')).toThrow(InvariantError)
  expect(() => invariant(undefined, 'a lease has a token')).toThrow('a lease has a token')
})
