import { Violation } from './checks.ts'
import { holdUp, strike, type Delay } from './faults.ts'
import type { Moment } from './moments.ts'
import { isReady, type Coroutine } from './process.ts'
import type { World } from './world.ts'

/** Steps within which everything must come to rest once the faults are over: several times what the longest run needs. */
const fairStepsMax = 10_000
/** One choice in so many lets time pass; one in so many may be a sweep's. */
const choicesPerAdvance = 24
const choicesPerSweep = 8
/** Time passes to the next alarm, or to one of so many after it. */
const alarmsMax = 16

/** What the schedule keeps in the world. */
export interface ScheduledWorld extends World {
  stepped: Coroutine | undefined
  later: readonly Later[]
}

interface Later {
  readonly latestStep: number
  readonly until: Moment
  readonly action: () => void
}

/** Takes the scenario's steps, each chosen at random, and lets its faults and delays strike when their moment has come. */
export function runWithFaults(world: ScheduledWorld): void {
  const { plan, machine, clock, history } = world
  let faults = plan.faults
  let delays = plan.delays
  const isDue = ({ at, moment }: Delay) => at <= world.step && (moment === 'anywhere' || moment === world.passed)
  const ready: Coroutine[] = []
  const choose = createChoice(plan.seed)
  for (let i = 0; i < plan.steps; i++) {
    delays = delays.filter((delay) => !isDue(delay) || !holdUp(world, delay))
    faults = faults.filter((fault) => {
      if (!isDue(fault) || !strike(world, fault)) return true
      if (fault.isSlow) holdUp(world, fault)
      history.struck.set(fault.kind, (history.struck.get(fault.kind) ?? 0) + 1)
      return false
    })
    world.later = world.later.filter(({ latestStep, until, action }) => {
      if (world.step < latestStep && (until === 'anywhere' || until !== world.passed)) return true
      action()
      return false
    })
    ready.length = 0
    for (const coroutine of machine.coroutines) if (isReady(coroutine)) ready.push(coroutine)
    const steps = ready.filter((coroutine) => !coroutine.isSweep)
    const candidates = steps.length > 0 && choose(choicesPerSweep) > 0 ? steps : ready
    world.step += 1
    const coroutine = candidates[choose(candidates.length)]
    if ((coroutine === undefined || choose(choicesPerAdvance) === 0) && clock.advance(choose(alarmsMax))) continue
    if (coroutine) takeStep(world, coroutine)
  }
}

/** xorshift32: a number below the bound. */
function createChoice(seed: number): (below: number) => number {
  let state = seed | 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % Math.max(1, below)
  }
}

/** Every coroutine in turn; time passes when none has anything to do. */
export function runFairly(world: ScheduledWorld): void {
  const { machine, clock } = world
  const end = world.step + fairStepsMax
  for (;;) {
    const takeAll = (isSweep: boolean) => {
      const ready = machine.coroutines.filter((coroutine) => coroutine.isSweep === isSweep && isReady(coroutine))
      for (const coroutine of ready) {
        if (!isReady(coroutine)) continue
        world.step += 1
        takeStep(world, coroutine)
      }
      return ready.length > 0
    }
    if (!takeAll(false) && !takeAll(true) && !clock.advance(0)) return
    if (world.step > end)
      throw new Violation('S1', `after ${fairStepsMax} fair steps without a fault it has not come to rest`)
  }
}

function takeStep(world: ScheduledWorld, coroutine: Coroutine): void {
  world.passed = 'anywhere'
  world.stepped = coroutine
  const next = coroutine.steps.next()
  if (next.done === true) world.machine.drop(coroutine)
  else coroutine.wait = next.value
}
