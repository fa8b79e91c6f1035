import { newId, type ConnectionId, type DestinationId, type SourceId } from '@tenterhook/schemas/ids'
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
import type { DesiredConfig } from './file.ts'
import { managedByFile, planChanges, type Step } from './plan.ts'

export type Applied =
  | { kind: 'applied'; version: number; steps: Step[] }
  | { kind: 'unchanged' }
  /** Nothing was changed: these would be removed with deliveries that have not ended. */
  | { kind: 'refused'; unfinished: { step: Step; deliveries: number }[] }

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
 * event is routed by it. Removes only what apply made, and nothing with unfinished deliveries unless `prune`.
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
      if (!options.prune) await refuseUnfinished(change, steps)
      await carryOut(change, steps, current, desired, keys, options.nowMs)
      return steps
    })
    return { kind: 'applied', version, steps: result }
  } catch (error) {
    if (error instanceof Leave) return error.outcome
    throw error
  }
}

async function refuseUnfinished(change: ConfigChange, steps: readonly Step[]): Promise<void> {
  const unfinished: { step: Step; deliveries: number }[] = []
  for (const step of steps) {
    if (step.action !== 'remove' || step.kind === 'source') continue
    const deliveries = await countUnfinished(change.db, step.kind, step.id)
    if (deliveries > 0) unfinished.push({ step, deliveries })
  }
  if (unfinished.length > 0) throw new Leave({ kind: 'refused', unfinished })
}

async function carryOut(
  change: ConfigChange,
  steps: readonly Step[],
  current: Config,
  desired: DesiredConfig,
  keys: EncryptionKeys,
  nowMs: number,
): Promise<void> {
  // Removals first: a new entry may carry the name of a removed one.
  for (const step of steps) if (step.action === 'remove') await remove(change, step.kind, step.id)
  const idOf = new Map<string, string>()
  for (const source of current.sources) idOf.set(`source ${source.spec.name}`, source.id)
  for (const destination of current.destinations) idOf.set(`destination ${destination.spec.name}`, destination.id)
  const prefixes = { source: 'src', destination: 'dst', connection: 'con' } as const
  const idFor = (step: Step) => {
    const id = step.action === 'create' ? newId(prefixes[step.kind], nowMs) : step.id
    idOf.set(`${step.kind} ${step.name}`, id)
    return id
  }
  const wanted = (kind: Step['kind']) => steps.filter((step) => step.kind === kind && step.action !== 'remove')
  for (const step of wanted('source')) {
    const spec = desired.sources.find((one) => one.spec.name === step.name)?.spec
    if (spec) await putSource(change, { id: idFor(step) as SourceId, spec, managedBy: managedByFile }, keys)
  }
  for (const step of wanted('destination')) {
    const spec = desired.destinations.find((one) => one.spec.name === step.name)?.spec
    if (spec) await putDestination(change, { id: idFor(step) as DestinationId, spec, managedBy: managedByFile }, keys)
  }
  for (const step of wanted('connection')) {
    const spec = desired.connections.find((one) => one.spec.name === step.name)?.spec
    if (!spec) continue
    await putConnection(change, {
      id: idFor(step) as ConnectionId,
      spec,
      managedBy: managedByFile,
      sourceId: idOf.get(`source ${spec.source}`) as SourceId,
      destinationId: idOf.get(`destination ${spec.destination}`) as DestinationId,
    })
  }
}
