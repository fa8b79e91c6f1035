import { isDeepStrictEqual } from 'node:util'
import type { ConnectionSpec } from '@tenterhook/schemas/connection'
import { splitDestinationSecrets, type DestinationSpec } from '@tenterhook/schemas/destination'
import { splitSourceSecrets, type SourceSpec } from '@tenterhook/schemas/source'
import type { Config } from '@tenterhook/store/config'
import type { Desired, DesiredConfig } from './file.ts'

/** Marks what apply made: it removes nothing else. */
export const managedByFile = 'file'

export type Kind = 'source' | 'destination' | 'connection'

/** One step from the configuration that stands to the one a file asks for. */
export type Step =
  | { action: 'create'; kind: Kind; name: string }
  /** `changed`: the paths that differ; of a secret only that it does. */
  | { action: 'update'; kind: Kind; name: string; id: string; renamedFrom: string | undefined; changed: string[] }
  | { action: 'remove'; kind: Kind; name: string; id: string }

interface Standing {
  id: string
  managedBy: string
  spec: { name: string }
}

/** The steps, removals last: empty when the configuration is already as asked. What others made and the file doesn't name stays. */
export function planChanges(current: Config, desired: DesiredConfig): Step[] {
  return [
    ...planKind('source', current.sources, desired.sources, sourceView),
    ...planKind('destination', current.destinations, desired.destinations, destinationView),
    ...planKind('connection', current.connections, desired.connections, (spec: ConnectionSpec) => ({
      open: spec,
      secret: undefined,
    })),
  ].toSorted((a, b) => Number(a.action === 'remove') - Number(b.action === 'remove'))
}

const sourceView = (spec: SourceSpec) => splitSourceSecrets(spec)
const destinationView = (spec: DestinationSpec) => splitDestinationSecrets(spec)

function planKind<S extends { name: string }>(
  kind: Kind,
  current: readonly (Standing & { spec: S })[],
  desired: readonly Desired<S>[],
  view: (spec: S) => { open: unknown; secret: unknown },
): Step[] {
  const steps: Step[] = []
  const kept = new Set<string>()
  for (const { spec, renamedFrom } of desired) {
    const before =
      current.find((one) => one.spec.name === spec.name) ??
      current.find((one) => one.spec.name === renamedFrom && !desired.some((other) => other.spec.name === renamedFrom))
    if (!before) {
      steps.push({ action: 'create', kind, name: spec.name })
      continue
    }
    kept.add(before.id)
    const changed = [
      ...differences(view(before.spec).open, view(spec).open, ''),
      ...(isDeepStrictEqual(view(before.spec).secret, view(spec).secret) ? [] : ['secrets']),
    ]
    if (before.managedBy !== managedByFile) changed.push('managed by this file from now on')
    if (changed.length > 0)
      steps.push({
        action: 'update',
        kind,
        name: spec.name,
        id: before.id,
        renamedFrom: before.spec.name === spec.name ? undefined : before.spec.name,
        changed,
      })
  }
  for (const one of current)
    if (!kept.has(one.id) && one.managedBy === managedByFile)
      steps.push({ action: 'remove', kind, name: one.spec.name, id: one.id })
  return steps
}

function differences(a: unknown, b: unknown, path: string): string[] {
  if (isDeepStrictEqual(a, b)) return []
  if (!isRecord(a) || !isRecord(b)) return [path]
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
    differences(a[key], b[key], path ? `${path}.${key}` : key),
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A line per step, as a person reads a diff. */
export function planText(steps: readonly Step[]): string {
  if (steps.length === 0) return 'nothing to change'
  const sign = { create: '+', update: '~', remove: '-' }
  return steps
    .map((step) => {
      const detail =
        step.action === 'update'
          ? ` (${step.renamedFrom ? `renamed from ${step.renamedFrom}; ` : ''}${step.changed.join(', ')})`
          : ''
      return `${sign[step.action]} ${step.kind} ${step.name}${detail}`
    })
    .join('\n')
}
