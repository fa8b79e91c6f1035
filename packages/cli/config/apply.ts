import { invariant } from '@tenterhook/lifecycle/invariant'
import { newId, type Id } from '@tenterhook/schemas/ids'
import { readConfig, type Config } from '@tenterhook/store/config'
import {
  changeConfig,
  countUnfinished,
  putConnection,
  putDestination,
  putSource,
  remove,
  type ConfigChange,
} from '@tenterhook/store/config-change'
import type { Store } from '@tenterhook/store/connect'
import type { EncryptionKeys } from '@tenterhook/store/secrets'
import type { Desired, DesiredConfig } from './file.ts'
import { managedByFile, planChanges, type Kind, type Step } from './plan.ts'

export type Applied =
  | { kind: 'applied'; version: number; steps: Step[] }
  | { kind: 'unchanged' }
  /** Nothing was changed. */
  | { kind: 'refused'; refusals: Refusal[] }

export type Refusal =
  /** It would be removed with deliveries that have not ended; `prune` does it all the same. */
  | { why: 'unfinished'; step: Step; deliveries: number }
  /** Connections that others made, and that the file doesn't name, use it. */
  | { why: 'in_use'; step: Step; connections: string[] }

/** Leaves the transaction without a new version. */
class Leave extends Error {
  readonly outcome: Exclude<Applied, { kind: 'applied' }>
  constructor(outcome: Exclude<Applied, { kind: 'applied' }>) {
    super(outcome.kind)
    this.outcome = outcome
  }
}

/**
 * Brings the configuration to what the file asks for, in one transaction and as one version: when it returns, the next
 * event is routed by it. Removes only what apply made, nothing that others' connections use, and nothing with
 * unfinished deliveries unless `prune`.
 */
export async function applyConfig(
  store: Pick<Store, 'durable'>,
  keys: EncryptionKeys,
  desired: DesiredConfig,
  options: { prune: boolean; nowMs: number },
): Promise<Applied> {
  try {
    const { version, result } = await changeConfig(store.durable, async (change) => {
      const current = await readConfig(change.db, keys)
      const steps = planChanges(current, desired)
      if (steps.length === 0) throw new Leave({ kind: 'unchanged' })
      const refusals = [...usedByOthers(steps, current), ...(options.prune ? [] : await unfinished(change, steps))]
      if (refusals.length > 0) throw new Leave({ kind: 'refused', refusals })
      await carryOut(change, steps, current, desired, keys, options.nowMs)
      return steps
    })
    return { kind: 'applied', version, steps: result }
  } catch (error) {
    if (error instanceof Leave) return error.outcome
    throw error
  }
}

function usedByOthers(steps: readonly Step[], current: Config): Refusal[] {
  const changed = new Set(
    steps.flatMap((step) => (step.action !== 'create' && step.kind === 'connection' ? [step.id] : [])),
  )
  const staying = current.connections.filter((one) => one.managedBy !== managedByFile && !changed.has(one.id))
  return steps.flatMap((step): Refusal[] => {
    if (step.action !== 'remove' || step.kind === 'connection') return []
    const users = staying.filter((one) => one.sourceId === step.id || one.destinationId === step.id)
    return users.length === 0 ? [] : [{ why: 'in_use', step, connections: users.map(({ spec }) => spec.name) }]
  })
}

async function unfinished(change: ConfigChange, steps: readonly Step[]): Promise<Refusal[]> {
  const refusals: Refusal[] = []
  for (const step of steps) {
    if (step.action !== 'remove' || step.kind === 'source') continue
    const deliveries = await countUnfinished(change.db, step.kind, step.id)
    if (deliveries > 0) refusals.push({ why: 'unfinished', step, deliveries })
  }
  return refusals
}

async function carryOut(
  change: ConfigChange,
  steps: readonly Step[],
  current: Config,
  desired: DesiredConfig,
  keys: EncryptionKeys,
  nowMs: number,
): Promise<void> {
  for (const step of steps) if (step.action === 'remove') await remove(change, step.kind, step.id)
  const sourceIds = new Map(current.sources.map((one) => [one.spec.name, one.id]))
  const destinationIds = new Map(current.destinations.map((one) => [one.spec.name, one.id]))
  for (const { step, spec } of withSpecs(steps, 'source', desired.sources)) {
    const id = idOf('src', step, nowMs)
    await putSource(change, { id, spec, managedBy: managedByFile }, keys)
    sourceIds.set(spec.name, id)
  }
  for (const { step, spec } of withSpecs(steps, 'destination', desired.destinations)) {
    const id = idOf('dst', step, nowMs)
    await putDestination(change, { id, spec, managedBy: managedByFile }, keys)
    destinationIds.set(spec.name, id)
  }
  for (const { step, spec } of withSpecs(steps, 'connection', desired.connections)) {
    const sourceId = sourceIds.get(spec.source)
    const destinationId = destinationIds.get(spec.destination)
    invariant(sourceId !== undefined && destinationId !== undefined, 'a checked file names only what it defines')
    const id = idOf('con', step, nowMs)
    await putConnection(change, { id, spec, managedBy: managedByFile, sourceId, destinationId })
  }
}

type Putting = Exclude<Step, { action: 'remove' }>

function withSpecs<Spec extends { name: string }>(
  steps: readonly Step[],
  kind: Kind,
  desired: readonly Desired<Spec>[],
): { step: Putting; spec: Spec }[] {
  return steps.flatMap((step) => {
    if (step.kind !== kind || step.action === 'remove') return []
    const spec = desired.find((one) => one.spec.name === step.name)?.spec
    invariant(spec !== undefined, 'only what is desired is created or updated')
    return [{ step, spec }]
  })
}

function idOf<P extends 'src' | 'dst' | 'con'>(prefix: P, step: Putting, nowMs: number): Id<P> {
  return step.action === 'create' ? newId(prefix, nowMs) : (step.id as Id<P>)
}
