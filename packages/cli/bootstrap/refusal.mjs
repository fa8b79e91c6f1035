/** A reason to stop that a person can act on, told in one line. */
export class Refusal extends Error {}
