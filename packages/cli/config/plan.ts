import { isDeepStrictEqual } from 'node:util'
import { splitDestinationSecrets } from '@tenterhook/schemas/destination'
import { splitSourceSecrets } from '@tenterhook/schemas/source'
import type { Config } from '@tenterhook/store/config'
import type { Desired, DesiredConfig } from './file.ts'

/** Marks what apply made: it removes nothing else. */
export const managedByFile = 'file'

export type Kind = 'source' | 'destination' | 'connection'

/** One step from the configuration that stands to the one a file asks for. */
export type Step =
  | { action: 'create'; kind: Kind; name: string }
  /** `changed`: the paths that differ; of secrets only that they do. */
  | { action: 'update'; kind: Kind; name: string; id: string; renamedFrom: string | undefined; changed: string[] }
  | { action: 'remove'; kind: Kind; name: string; id: string }

interface Standing {
  id: string
  managedBy: string
  spec: { name: string }
}

/** What two versions are compared by: what may be shown, and what may only be said to differ. */
interface View {
  open: unknown
  secret?: unknown
}

/** The steps, removals last: empty when the configuration is already as asked. What others made and the file doesn't name stays. */
export function planChanges(current: Config, desired: DesiredConfig): Step[] {
  const sources = matchKind(current.sources, desired.sources)
  const destinations = matchKind(current.destinations, desired.destinations)
  const connections = matchKind(current.connections, desired.connections)
  return [
    ...stepsOf('source', sources, ({ spec }) => splitSourceSecrets(spec), splitSourceSecrets),
    ...stepsOf('destination', destinations, ({ spec }) => splitDestinationSecrets(spec), splitDestinationSecrets),
    ...stepsOf(
      'connection',
      connections,
      // By id as well as by name: another source of the same name is another source.
      ({ spec, sourceId, destinationId }): View => ({
        open: { ...spec, source: [spec.source, sourceId], destination: [spec.destination, destinationId] },
      }),
      (spec): View => ({
        open: {
          ...spec,
          source: [spec.source, sources.idOf(spec.source)],
          destination: [spec.destination, destinations.idOf(spec.destination)],
        },
      }),
    ),
  ].toSorted((a, b) => Number(a.action === 'remove') - Number(b.action === 'remove'))
}

/** Which standing entry each wanted one is, and which are wanted no more. */
interface Matched<S extends Standing> {
  pairs: { wanted: Desired<S['spec']>; before: S | undefined }[]
  left: S[]
  /** The id that a wanted name has already; undefined while it must still be made. */
  idOf(name: string): string | undefined
}

function matchKind<S extends Standing>(current: readonly S[], desired: readonly Desired<S['spec']>[]): Matched<S> {
  const named = (name: string | undefined) => current.find((one) => one.spec.name === name)
  // The new name first: `renamedFrom` may stay in the file when it was done long ago.
  const pairs = desired.map((wanted) => ({ wanted, before: named(wanted.spec.name) ?? named(wanted.renamedFrom) }))
  const kept = new Set(pairs.map(({ before }) => before?.id))
  return {
    pairs,
    left: current.filter((one) => !kept.has(one.id) && one.managedBy === managedByFile),
    idOf: (name) => pairs.find(({ wanted }) => wanted.spec.name === name)?.before?.id,
  }
}

function stepsOf<S extends Standing>(
  kind: Kind,
  { pairs, left }: Matched<S>,
  viewOfStanding: (standing: S) => View,
  viewOfSpec: (spec: S['spec']) => View,
): Step[] {
  const steps = pairs.flatMap(({ wanted: { spec }, before }): Step[] => {
    const { name } = spec
    if (!before) return [{ action: 'create', kind, name }]
    const [was, is] = [viewOfStanding(before), viewOfSpec(spec)]
    const changed = differences(was.open, is.open, '')
    if (!isDeepStrictEqual(was.secret, is.secret)) changed.push('secrets')
    if (before.managedBy !== managedByFile) changed.push('managed by this file from now on')
    if (changed.length === 0) return []
    const renamedFrom = before.spec.name === name ? undefined : before.spec.name
    return [{ action: 'update', kind, name, id: before.id, renamedFrom, changed }]
  })
  const removals = left.map(({ id, spec: { name } }): Step => ({ action: 'remove', kind, name, id }))
  return [...steps, ...removals.toSorted((a, b) => (a.name < b.name ? -1 : 1))]
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
  return steps.map(stepText).join('\n')
}

const signs = { create: '+', update: '~', remove: '-' }

export function stepText(step: Step): string {
  const what = `${signs[step.action]} ${step.kind} ${step.name}`
  if (step.action !== 'update') return what
  const renamed = step.renamedFrom === undefined ? [] : [`renamed from ${step.renamedFrom}`]
  return `${what} (${[...renamed, ...step.changed.filter((path) => path !== 'name')].join(', ')})`
}

/** One line: `created 3 sources and 2 connections, changed 1 destination`. */
export function summaryText(steps: readonly Step[]): string {
  const words = { create: 'created', update: 'changed', remove: 'removed' }
  const parts = (['create', 'update', 'remove'] as const).flatMap((action) => {
    const counts = (['source', 'destination', 'connection'] as const).flatMap((kind) => {
      const count = steps.filter((step) => step.action === action && step.kind === kind).length
      return count === 0 ? [] : [`${count} ${kind}${count === 1 ? '' : 's'}`]
    })
    return counts.length === 0 ? [] : [`${words[action]} ${listText(counts)}`]
  })
  return parts.length === 0 ? 'nothing to change' : parts.join('; ')
}

function listText(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
