import { createChecks, Violation } from './checks.ts'
import { createClock } from './clock.ts'
import type { Flaws } from './controls.ts'
import { startDispatcher } from './dispatcher.ts'
import { epochRow } from './epoch.ts'
import { heal } from './faults.ts'
import { createHistory, type History } from './history.ts'
import { startIngest } from './ingest.ts'
import { startOperator } from './operator.ts'
import { createPostgres, type Postgres } from './postgres.ts'
import { createMachine, type Process } from './process.ts'
import { createRedis } from './redis.ts'
import { startRouter } from './router.ts'
import type { Scenario } from './scenario.ts'
import { runFairly, runWithFaults, type ScheduledWorld } from './schedule.ts'
import { startSenders } from './sender.ts'
import { startStalledCheck } from './stalled-check.ts'
import { timing } from './world.ts'

export interface Run {
  readonly violation: Violation | undefined
  readonly history: History
  readonly steps: number
}

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

function createWorld(plan: Scenario, flaws: Flaws, say: ((line: string) => void) | undefined): ScheduledWorld {
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
  const world: ScheduledWorld = {
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

  function kill(process: Process, ends: boolean): void {
    machine.dropAll(process)
    postgres.forget(process, ends)
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
