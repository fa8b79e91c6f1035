/** Carries out a plan of faults and writes down what it really did, and when. */
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../../support/poll.ts'
import type { FaultRan } from './evidence.ts'
import { inflict, reviveRedis } from './faults.ts'
import { steadyMs } from './journal.ts'
import { faultKinds } from './plan.ts'
import type { FaultKind, Planned } from './plan.ts'
import type { System } from './system.ts'

export type Inflicted = {
  faults: FaultRan[]
  /** Kinds that can't be done on this machine, and why. */
  skipped: Map<FaultKind, string>
  /** Single faults that broke off, and why: a busy machine's server that was not up in time. */
  failed: string[]
}

const backAgainMs = 6_000

/** Lanes run beside each other. A fault whose turn is late comes at once. */
export async function inflictAll(system: System, plan: readonly Planned[], signal: AbortSignal): Promise<Inflicted> {
  const faults: FaultRan[] = []
  const skipped = new Map<FaultKind, string>()
  const failed: string[] = []
  const startedMs = performance.now()

  async function runLane(lane: readonly Planned[]): Promise<void> {
    for (const fault of lane) {
      await delay(Math.max(0, startedMs + fault.atMs - performance.now()), undefined, { signal })
      const startMs = steadyMs()
      const ran: FaultRan = { kind: fault.kind, target: fault.target, startMs, healMs: startMs, endMs: Infinity }
      faults.push(ran)
      const reason = await inflict[fault.kind](system, fault).catch(async (error: unknown) => {
        failed.push(`${fault.kind} of ${fault.target}: ${String(error)}`)
        if (faultKinds[fault.kind].lane === 'redis') await reviveRedis(system.redis)
      })
      ran.healMs = steadyMs()
      if (typeof reason === 'string') {
        skipped.set(fault.kind, reason)
        faults.splice(faults.indexOf(ran), 1)
        continue
      }
      if (faultKinds[fault.kind].lane === 'postgres') await system.postgres.ready()
      ran.endMs = steadyMs()
      if (faultKinds[fault.kind].lane === 'kills') await backAgain(system, fault)
    }
  }
  await Promise.all(Object.values(Object.groupBy(plan, ({ lane }) => lane)).map((lane) => runLane(lane ?? [])))
  return { faults, skipped, failed }
}

/** A machine too busy to start a service in the time between two kills would only see services that start. */
async function backAgain({ services }: System, { target }: Planned): Promise<void> {
  const killed = [...services.values()].find(({ name }) => name === target)
  const ready = until(() => killed?.isReady(), { what: `${target} to be back`, timeoutMs: backAgainMs, everyMs: 100 })
  await ready.catch(() => {}) // the next kill comes all the same
}

/** Whatever a fault may have left: nothing is stopped, full, slow or at another hour any more. */
export async function healAll({ services, postgres, redis }: System): Promise<void> {
  await reviveRedis(redis)
  await postgres.disk?.free()
  for (const { lines, resume } of services.values()) {
    resume()
    await lines.postgres.heal()
    await lines.redis.heal()
  }
  await postgres.ready()
}
