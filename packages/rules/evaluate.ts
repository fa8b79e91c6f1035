import type { Path } from './path.ts'
import { someValue } from './walk.ts'

export type Matches = (scope: unknown) => boolean
export type Holds = (value: unknown) => boolean

/** How an operator asks its question of the values at a field. */
export type Test =
  /** Some value, or some element of a list, holds. */
  | { kind: 'some'; holds: Holds }
  /** The field is there, and no value and no element holds. */
  | { kind: 'none'; holds: Holds }
  /** Each of these holds for some value or element. */
  | { kind: 'each'; holds: readonly Holds[] }
  /** Some value holds as a whole; lists are not looked into. */
  | { kind: 'whole'; holds: Holds }
  | { kind: 'present'; wanted: boolean }

export interface Field {
  path: Path
  /** False for an element of a list under `$elemMatch`, which is compared as it is even when it is a list. */
  looksIntoLists: boolean
}

/** Closes over a test once, so that matching an event allocates nothing. An absent field is never tested (walk.ts). */
export function compileTest({ path, looksIntoLists }: Field, test: Test): Matches {
  const orElement = (holds: Holds): Holds => {
    if (!looksIntoLists) return holds
    return (value) => holds(value) || (Array.isArray(value) && value.some((element) => holds(element)))
  }
  switch (test.kind) {
    case 'some': {
      const holds = orElement(test.holds)
      return (scope) => someValue(scope, path, holds)
    }
    case 'none': {
      const holds = orElement(test.holds)
      return (scope) => someValue(scope, path, isPresent) && !someValue(scope, path, holds)
    }
    case 'each': {
      const each = test.holds.map(orElement)
      return (scope) => each.every((holds) => someValue(scope, path, holds))
    }
    case 'whole':
      return (scope) => someValue(scope, path, test.holds)
    case 'present':
      return (scope) => someValue(scope, path, isPresent) === test.wanted
  }
}

function isPresent(): boolean {
  return true
}
