import { describe, expect, it } from 'vitest'
import { createSlots } from './slots.ts'

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Takes a slot and notes when it was let in or turned away. */
function taker(slots: ReturnType<typeof createSlots>, notes: string[]) {
  return (name: string) => void slots.take().then((taken) => notes.push(taken ? name : `not ${name}`))
}

describe('slots', () => {
  it('let in as many as there are, then one for each that leaves, in order', async () => {
    const slots = createSlots(2)
    const notes: string[] = []
    for (const name of ['a', 'b', 'c', 'd']) taker(slots, notes)(name)
    await turn()
    expect(notes).toEqual(['a', 'b'])
    slots.free()
    await turn()
    expect(notes).toEqual(['a', 'b', 'c'])
    expect(slots.taken()).toBe(2)
  })

  it('let nobody in while held, though some are free, and all of them after', async () => {
    const slots = createSlots(3)
    const notes: string[] = []
    const take = taker(slots, notes)
    take('a')
    slots.hold()
    take('b')
    take('c')
    await turn()
    slots.free()
    await turn()
    expect(notes).toEqual(['a'])
    slots.letGo()
    await turn()
    expect(notes).toEqual(['a', 'b', 'c'])
  })

  it('turn away everyone once closed, those in the queue too', async () => {
    const slots = createSlots(1)
    const notes: string[] = []
    const take = taker(slots, notes)
    take('a')
    take('b')
    slots.close()
    take('c')
    slots.free()
    await turn()
    expect(notes.toSorted()).toEqual(['a', 'not b', 'not c'])
    expect(slots.taken()).toBe(0)
  })

  it('are idle when none is taken', async () => {
    const slots = createSlots(2)
    await slots.idle()
    await slots.take()
    await slots.take()
    const ended: string[] = []
    const idle = slots.idle().then(() => ended.push('idle'))
    slots.free()
    await turn()
    expect(ended).toEqual([])
    slots.free()
    await idle
  })
})
