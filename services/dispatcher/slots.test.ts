import { expect, test } from 'vitest'
import { createSlots } from './slots.ts'

test('no more are taken than there are, and who waits gets the next one in order', async () => {
  const slots = createSlots(2)
  const order: number[] = []
  const take = (n: number) => slots.take().then(() => order.push(n))
  await Promise.all([take(1), take(2)])
  const third = take(3)
  const fourth = take(4)
  await new Promise((resolve) => setImmediate(resolve))
  expect(order).toEqual([1, 2])
  expect(slots.free()).toBe(0)
  slots.give()
  await third
  slots.give()
  await fourth
  expect(order).toEqual([1, 2, 3, 4])
  slots.give()
  slots.give()
  expect(slots.free()).toBe(2)
})

test('drained resolves when the last is given back, or when the signal aborts', async () => {
  const slots = createSlots(1)
  await slots.drained(new AbortController().signal)
  await slots.take()
  const drained = slots.drained(new AbortController().signal)
  slots.give()
  await drained
  await slots.take()
  await slots.drained(AbortSignal.timeout(10))
  expect(slots.free()).toBe(0)
})
