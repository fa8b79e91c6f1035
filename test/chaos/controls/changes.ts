/**
 * How a control breaks a rule from outside: in the source text of one module as a service loads it, in the parts a
 * service starts, or in a function of the test's own database. No production code knows of it. A text that isn't there
 * exactly once, or a part that doesn't exist, is an error: a control must not go on with nothing broken.
 */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Component } from '@tenterhook/lifecycle/component'
import type { Store } from '@tenterhook/store/connect'

export type Replacement = { readonly find: string; readonly replace: string }
/** `module` is a path below the repository. */
export type ModuleChange = Replacement & { readonly module: string }
/** `name` is an SQL function's. */
export type FunctionChange = Replacement & { readonly name: string }

export type ServiceChange = {
  readonly texts?: readonly ModuleChange[]
  /** Components that are not started: all whose names begin with this. */
  readonly without?: string
  readonly env?: Readonly<Record<string, string>>
}

export type Changes = { readonly [Service in 'ingest' | 'router' | 'dispatcher']?: ServiceChange } & {
  readonly functions?: readonly FunctionChange[]
  /** What else of the database is changed, and how it is put back. */
  readonly statement?: { readonly change: string; readonly restore: string }
}

export function replaceOnce(where: string, text: string, { find, replace }: Replacement): string {
  const found = text.split(find).length - 1
  if (found !== 1) throw new Error(`a control changes a text of ${where} that stands there ${found} times: ${find}`)
  return text.replace(find, () => replace)
}

/** From now on these modules are loaded changed. What it returns throws unless all of them were loaded. */
export function changeModules(root: string, changes: readonly ModuleChange[]): () => void {
  const byPath = Map.groupBy(changes, ({ module }) => join(root, module))
  const left = new Set(byPath.keys())
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const path = url.startsWith('file:') ? fileURLToPath(url) : url
      const its = byPath.get(path)
      if (its === undefined) return loaded
      left.delete(path)
      const source = its.reduce((text, change) => replaceOnce(change.module, text, change), readFileSync(path, 'utf8'))
      return { ...loaded, source }
    },
  })
  return () => {
    if (left.size > 0) throw new Error(`a control changes what is never loaded: ${[...left].join(', ')}`)
  }
}

export function withoutComponents(components: readonly Component[], beginning: string): readonly Component[] {
  const kept = components.filter(({ name }) => !name.startsWith(beginning))
  if (kept.length === components.length) throw new Error(`a control leaves out ${beginning}, which isn't there`)
  return kept
}

/** Changes the database; what it returns puts everything back. */
export async function changeDatabase({ durable }: Store, changes: readonly Changes[]): Promise<() => Promise<void>> {
  const restoring: string[] = []
  for (const { functions = [], statement } of changes) {
    for (const change of functions) {
      const { rows } = await durable.query<{ definition: string }>(
        'SELECT pg_get_functiondef($1::regproc) AS definition',
        [change.name],
      )
      const definition = rows[0]?.definition ?? ''
      await durable.query(replaceOnce(change.name, definition, change))
      restoring.unshift(definition)
    }
    if (statement !== undefined) {
      await durable.query(statement.change)
      restoring.unshift(statement.restore)
    }
  }
  return async () => {
    for (const sql of restoring) await durable.query(sql)
  }
}
