import { createLogger } from '@tenterhook/telemetry/log'
import { beforeEach, expect, test, vi } from 'vitest'
import { loop } from './loop.ts'

let lines: Record<string, unknown>[]
const log = createLogger({
  service: 'test',
  level: 'info',
  destination: { write: (line) => lines.push(JSON.parse(line)) },
})
const grace = new AbortController().signal

beforeEach(() => {
  lines = []
})

test('work is done again at once while there is more, and after the pause when there is none', async () => {
  const results = ['more', 'more', 'idle', 'more', 'idle'] as const
  const doneMs: number[] = []
  const component = loop({
    name: 'sweep',
    everyMs: 200,
    work: async () => results[doneMs.push(performance.now()) - 1] ?? 'idle',
    log,
    random: () => 0.5,
  })
  await component.start()
  await vi.waitFor(() => expect(doneMs.length).toBeGreaterThanOrEqual(5))
  await component.stop(grace)
  const gaps = doneMs.slice(1, 5).map((at, index) => at - (doneMs[index] ?? 0))
  expect(gaps[2]).toBeGreaterThan(190)
  for (const quick of [gaps[0], gaps[1], gaps[3]]) expect(quick).toBeLessThan(190)
})

test.each([
  [0, 160],
  [0.999_999, 240],
] as const)(
  'a pause of 200 ms with the chance %d is %d ms, so that copies do not march in step',
  async (chance, waitMs) => {
    const doneMs: number[] = []
    const work = async () => {
      doneMs.push(performance.now())
      return 'idle' as const
    }
    const component = loop({ name: 'sweep', everyMs: 200, work, log, random: () => chance })
    await component.start()
    await vi.waitFor(() => expect(doneMs).toHaveLength(7), { timeout: 10_000 })
    await component.stop(grace)
    const gaps = doneMs.slice(1).map((at, index) => at - (doneMs[index] ?? 0))
    // A busy machine makes single pauses longer, never shorter.
    expect(Math.min(...gaps)).toBeGreaterThan(waitMs - 5)
    expect(Math.min(...gaps)).toBeLessThan(waitMs + 39)
  },
)

test('failing work goes on, a second apart, and is not said every time', async () => {
  const triedMs: number[] = []
  const work = () => {
    triedMs.push(performance.now())
    return Promise.reject(new Error('no connection'))
  }
  const component = loop({ name: 'sweep', everyMs: 10, work, log, random: () => 0.5 })
  await component.start()
  await vi.waitFor(() => expect(triedMs).toHaveLength(3), { timeout: 5_000 })
  await component.stop(grace)
  expect((triedMs[2] ?? 0) - (triedMs[0] ?? 0)).toBeGreaterThan(1_990)
  expect(lines).toMatchObject([
    { event: 'loop.failed', loop: 'sweep', failures: 1, error: { message: 'no connection' } },
  ])
})

test('stop tells the work under way, waits for it, ends the pause and starts no more', async () => {
  const finish = Promise.withResolvers<void>()
  let told: AbortSignal | undefined
  let times = 0
  const work = async (signal: AbortSignal) => {
    told = signal
    times += 1
    await finish.promise
    return 'more' as const
  }
  const component = loop({ name: 'sweep', everyMs: 60_000, work, log, random: () => 0.5 })
  await component.start()
  let stopped = false
  const stopping = component.stop(grace).then(() => (stopped = true))
  expect(told?.aborted).toBe(true)
  await new Promise((resolve) => setImmediate(resolve))
  expect(stopped).toBe(false)
  finish.resolve()
  await stopping
  expect(times).toBe(1)
})
