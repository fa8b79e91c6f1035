/**
 * Stops the program when what must be true is not: a fault of ours, never of a caller or of the machine.
 * `message` says what should have held.
 */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message)
}

export class InvariantError extends Error {
  readonly code = 'invariant_broken'
  constructor(message: string) {
    super(`invariant: ${message}`)
    this.name = 'InvariantError'
  }
}
