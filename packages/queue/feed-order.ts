/**
 * Who is fed next: deficit round robin (Shreedhar & Varghese) over tenants, and in turn over a tenant's destinations.
 * Owns the destinations that still need a call of T3; holds no timers and calls nobody.
 *
 * Tenants take turns of one destination each, so that one with ten thousand of them holds up no other by more than one.
 * What a turn admitted is charged to its tenant afterwards; who has used up its quantum sits out until the others have,
 * so that of a scarce total many small destinations get as much as one with a long backlog.
 */
export type FeedOrder = Readonly<{
  /** At the end of its tenant, unless it is there already. */
  add(destination: Wanting): void
  has(id: string): boolean
  size(): number
  /** The destination whose turn it is; it is no longer held. */
  next(): Wanting | undefined
  /** What a tenant's turn admitted. After `add`, should the destination go on. */
  charge(tenant: string, deliveries: number): void
}>

export type Wanting = Readonly<{ id: string; tenant: string }>

/** Deliveries that a destination may take in one turn, and its tenant in one round. */
export const quantum = 100

type Tenant = { name: string; deficit: number; waiting: Line<string> }

export function createFeedOrder(): FeedOrder {
  /** Those with a destination waiting. */
  const tenants = new Map<string, Tenant>()
  const tenantOf = new Map<string, Tenant>()
  /** Who has some of its quantum left, in order of turns, and who sits out. */
  const inRound = createLine<Tenant>()
  let sittingOut = new Set<Tenant>()

  /** Everyone who waits has used up its quantum. A deficit is never below a quantum, so two rounds at most bring someone back. */
  function beginRound(): void {
    const waiting = sittingOut
    sittingOut = new Set()
    for (const tenant of waiting) {
      tenant.deficit += quantum
      if (tenant.deficit > 0) inRound.add(tenant)
      else sittingOut.add(tenant)
    }
  }

  return {
    add({ id, tenant: name }) {
      if (tenantOf.has(id)) return
      let tenant = tenants.get(name)
      if (tenant === undefined) {
        tenant = { name, deficit: quantum, waiting: createLine() }
        tenants.set(name, tenant)
        inRound.add(tenant)
      }
      tenant.waiting.add(id)
      tenantOf.set(id, tenant)
    },
    has: (id) => tenantOf.has(id),
    size: () => tenantOf.size,
    next() {
      while (inRound.size() === 0 && sittingOut.size > 0) beginRound()
      const tenant = inRound.shift()
      const id = tenant?.waiting.shift()
      if (tenant === undefined || id === undefined) return undefined
      tenantOf.delete(id)
      if (tenant.waiting.size() > 0) inRound.add(tenant)
      else tenants.delete(tenant.name)
      return { id, tenant: tenant.name }
    },
    charge(name, deliveries) {
      const tenant = tenants.get(name)
      // One that waits for nothing more owes nothing.
      if (tenant === undefined) return
      tenant.deficit = Math.max(tenant.deficit - deliveries, 1 - quantum)
      if (tenant.deficit <= 0 && inRound.delete(tenant)) sittingOut.add(tenant)
    },
  }
}

type Line<T> = { add(entry: T): void; delete(entry: T): boolean; shift(): T | undefined; size(): number }

/** First in, first out, each entry once. One iterator goes along: a new one would step over all that was removed before. */
function createLine<T>(): Line<T> {
  const entries = new Set<T>()
  let reader = entries.values()
  return {
    add: (entry) => void entries.add(entry),
    delete: (entry) => entries.delete(entry),
    shift() {
      if (entries.size === 0) return undefined
      let read = reader.next()
      if (read.done) {
        reader = entries.values()
        read = reader.next()
      }
      if (read.done) return undefined
      entries.delete(read.value)
      return read.value
    },
    size: () => entries.size,
  }
}
