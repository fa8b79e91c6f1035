import { createChecks, Violation } from './checks.ts'
import { createClock } from './clock.ts'
import type { Flaws } from './controls.ts'
import { startDispatcher } from './dispatcher.ts'
import { epochRow } from './epoch.ts'
import { heal, holdUp, strike, type Delay } from './faults.ts'
import { createHistory, type History } from './history.ts'
import { startIngest } from './ingest.ts'
import { startOperator } from './operator.ts'
import type { Moment } from './moments.ts'
import { createPostgres, type Postgres } from './postgres.ts'
import { createMachine, isReady, type Coroutine, type Process } from './process.ts'
import { createRedis } from './redis.ts'
import { startRouter } from './router.ts'
import type { Scenario } from './scenario.ts'
import { startSenders } from './sender.ts'
import { timing, type World } from './world.ts'

export interface Run {
  readonly violation: Violation | undefined
  readonly history: History
  readonly steps: number
}

/** Steps within which everything must come to rest once the faults are over: several times what the longest run needs. */
const fairStepsMax = 10_000
/** One choice in so many lets time pass; one in so many may be a sweep's. */
const choicesPerAdvance = 24
const choicesPerSweep = 8
/** Time passes to the next alarm, or to one of so many after it. */
const alarmsMax = 16

/** Runs a scenario to its end: first as its choices and faults say, then healed and fairly. The same scenario is the same run. */
export function simulate(plan: Scenario, flaws: Flaws = {}, say?: (line: string) => void): Run {
  const world = createWorld(plan, flaws, say)
  try {
    runWithFaults(world)
    heal(world)
    runFairly(world)
    world.checks.atRest(world)
    for (const { state } of world.postgres.deliveries.values())
      if (state === 'delivered' || state === 'dead' || state === 'cancelled') world.history.see(state)
    return { violation: undefined, history: world.history, steps: world.step }
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    say?.(`BROKEN ${error.message}`)
    return { violation: error, history: world.history, steps: world.step }
  }
}

/** What happened in a run, line by line. */
export function trace(plan: Scenario, flaws: Flaws = {}): string {
  const lines: string[] = []
  simulate(plan, flaws, (line) => void lines.push(line))
  return lines.join('\n')
}

function createWorld(plan: Scenario, flaws: Flaws, say: ((line: string) => void) | undefined): SimulatedWorld {
  const machine = createMachine()
  const clock = createClock()
  const history = createHistory()
  let postgres: Postgres
  const checks = createChecks({ plan, history, postgres: () => postgres })
  postgres = createPostgres(clock, machine, {
    onDelivery: checks.onDelivery,
    onEvent(event) {
      checks.onEvent(event)
      takeTurns(event.id, event.call, event.orderKey)
    },
    onStatement: (name) => void (world.passed = name),
    onDeadlock: checks.onDeadlock,
  })
  const redis = createRedis({
    clock,
    latencyMs: plan.slowQueue ? timing.slowQueueLatencyMs : 0,
    keepsMoments: plan.faults.some((fault) => fault.kind === 'redis rewound'),
    keepsFinished: flaws.jobIdWithoutGenerationKept === true || flaws.keptJobsReAdded === true,
  })
  for (const { destination } of plan.connections)
    postgres.destinations.set(destination, {
      id: destination,
      window: plan.window,
      paused: false,
      closedUntilMs: -Infinity,
    })
  postgres.epoch.set(epochRow, { runId: redis.runId, key: redis.key ?? 0 })

  let numbers = 1
  let asked = 0
  const services: Process[] = []
  const world: SimulatedWorld = {
    plan,
    flaws,
    machine,
    clock,
    postgres,
    redis,
    history,
    checks,
    answer: () => plan.answers[asked++] ?? plan.finally,
    services,
    later: [],
    step: 0,
    passed: 'anywhere',
    stepped: undefined,
    kill,
    onCrash,
    newToken: () => `t${(numbers += 1)}`,
    newNumber: () => (numbers += 1),
    whenOver: ({ lasts, until }, action) =>
      void (world.later = [...world.later, { latestStep: world.step + lasts, until, action }]),
    say:
      say &&
      ((line: string) => say(`${String(world.step).padStart(5)} ${String(clock.nowMs).padStart(7)} ms  ${line}`)),
  }

  function kill(process: Process): void {
    machine.dropAll(process)
    postgres.forget(process)
    clock.forget(process)
    process.life += 1
    process.paused = false
    process.begin(process)
  }

  function onCrash(): void {
    for (const attempt of history.attempts.values())
      if (postgres.deliveries.get(attempt.delivery)?.token !== attempt.token) attempt.leaseLost = true
  }

  function takeTurns(event: string, callName: string, orderKey: string): void {
    const call = history.calls.find((each) => each.name === callName)
    for (const { id, ordered } of plan.connections) {
      const place = `${event}>${id}`
      if (!ordered || call === undefined || history.turns.has(place)) continue
      history.turns.set(place, {
        event,
        place,
        connection: id,
        orderKey,
        arrivedAt: call.arrivedAt,
        answeredAt: undefined,
        sent: false,
      })
    }
  }

  const copies = [startIngest(world, 'ingest A'), startIngest(world, 'ingest B')]
  services.push(
    ...copies.map((copy) => copy.process),
    startRouter(world, 'router A'),
    startRouter(world, 'router B'),
    startDispatcher(world, 'dispatcher A'),
    startDispatcher(world, 'dispatcher B'),
  )
  startSenders(world, copies)
  startOperator(world)
  startStalledCheck(world)
  for (const process of machine.processes) process.begin(process)
  return world
}

interface SimulatedWorld extends World {
  stepped: Coroutine | undefined
  later: readonly Later[]
}

interface Later {
  readonly latestStep: number
  readonly until: Moment
  readonly action: () => void
}

/** BullMQ's: a dead worker's job comes back. */
function startStalledCheck(world: World): void {
  const { redis, machine, postgres, flaws } = world
  machine.add('stalled check', (self) => {
    world.machine.spawn(
      self,
      (function* () {
        for (;;) {
          yield () => redis.orphans().length > 0
          const [job] = redis.orphans()
          if (job === undefined) continue
          if (!flaws.queueFailureFinal) {
            redis.putBack(job)
            continue
          }
          redis.remove(job)
          yield* postgres.query({
            name: 'T7',
            client: self,
            synchronous: false,
            *body(tx) {
              for (const { id } of job.hints) {
                yield* tx.lock(id)
                const row = tx.read(postgres.deliveries, id)
                if (row && row.dueAtMs !== null)
                  tx.write(postgres.deliveries, id, { ...row, state: 'dead', dueAtMs: null, token: null })
              }
            },
          })
        }
      })(),
    )
  })
}

function runWithFaults(world: SimulatedWorld): void {
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
function runFairly(world: SimulatedWorld): void {
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

function takeStep(world: SimulatedWorld, coroutine: Coroutine): void {
  world.passed = 'anywhere'
  world.stepped = coroutine
  const next = coroutine.steps.next()
  if (next.done === true) world.machine.drop(coroutine)
  else coroutine.wait = next.value
}
