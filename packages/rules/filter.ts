import { readFilter, type FilterError } from './conditions.ts'
import { reasonFor, type Reason } from './explain.ts'
import type { Subject } from './subject.ts'

export type { FilterError, Reason }

export type Explanation = { matched: true } | { matched: false; reason: Reason }

/** A compiled filter. Neither method throws, and both cost at most the filter's size times the body's. */
export interface Filter {
  matches(subject: Subject): boolean
  /** Says why not; `matched` is always what `matches` answers. */
  explain(subject: Subject): Explanation
}

export type CompiledFilter =
  | { kind: 'compiled'; filter: Filter; warnings: readonly FilterError[] }
  | { kind: 'invalid'; errors: readonly FilterError[] }

/**
 * Compiles a filter in MongoDB query syntax over an event (DESIGN §5; the differences to MongoDB and their reasons are
 * in docs/decisions/0002-filters.md). All mistakes are reported at once, each with its place and what was expected
 * there. `{}` matches every event.
 */
export function compileFilter(filter: unknown): CompiledFilter {
  const { condition, errors, warnings } = readFilter(filter)
  if (errors.length > 0) return { kind: 'invalid', errors }
  return {
    kind: 'compiled',
    warnings,
    filter: {
      matches: (subject) => condition.matches(subject),
      explain: (subject) =>
        condition.matches(subject) ? { matched: true } : { matched: false, reason: reasonFor(condition, subject) },
    },
  }
}
