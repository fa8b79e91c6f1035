import { compileFilter, type Explanation, type Filter } from './filter.ts'
import type { Subject } from './subject.ts'

/** What matching needs of a connection. */
export interface Matchable {
  spec: { name: string; enabled: boolean; filter: Record<string, unknown> }
}

export interface Rule<C extends Matchable> {
  connection: C
  filter: Filter
}

/** Why a connection takes no part in an event. */
export type Mismatch =
  | { connection: string; why: 'disabled' }
  | { connection: string; why: 'filter'; reason: Extract<Explanation, { matched: false }>['reason'] }

/**
 * Compiles the filters of connections. A filter was checked when it was written; one that no longer compiles throws,
 * naming its connection.
 */
export function compileRules<C extends Matchable>(connections: readonly C[]): Rule<C>[] {
  return connections.map((connection) => {
    const compiled = compileFilter(connection.spec.filter)
    if (compiled.kind === 'invalid') {
      throw new Error(
        `the filter of connection ${connection.spec.name} is invalid: ${compiled.errors.map((error) => `${error.path}: ${error.message}`).join('; ')}`,
      )
    }
    return { connection, filter: compiled.filter }
  })
}

/** Which of these connections an event goes over, and for each of the others why not. */
export function matchRules<C extends Matchable>(
  rules: readonly Rule<C>[],
  subject: Subject,
): { matched: C[]; mismatches: Mismatch[] } {
  const matched: C[] = []
  const mismatches: Mismatch[] = []
  for (const { connection, filter } of rules) {
    if (!connection.spec.enabled) {
      mismatches.push({ connection: connection.spec.name, why: 'disabled' })
      continue
    }
    if (filter.matches(subject)) {
      matched.push(connection)
      continue
    }
    const explained = filter.explain(subject)
    if (!explained.matched)
      mismatches.push({ connection: connection.spec.name, why: 'filter', reason: explained.reason })
  }
  return { matched, mismatches }
}
