import type { ConnectionId, DestinationId } from '@tenterhook/schemas/ids'
import type { Connection, Destination } from '@tenterhook/store/config'
import type { Leased } from '@tenterhook/store/lease'

/** What an attempt is made with: URL, auth, secrets, limits, schedule, as they stand at the attempt. */
export interface Target {
  destination: Destination
  connection: Connection
}

/** How many versions are remembered of each; the oldest is forgotten first. */
const versionsMax = 5_000

/**
 * Owns the destinations and connections by version. A lease names the versions that stand; what isn't known is read,
 * deleted ones too, since what is under way still needs them.
 */
export function createTargets(params: {
  readDestinations: (ids: readonly DestinationId[]) => Promise<Destination[]>
  readConnections: (ids: readonly ConnectionId[]) => Promise<Connection[]>
}): { get(leased: Pick<Leased, 'destinationId' | 'destinationVersion' | 'connectionId' | 'connectionVersion'>): Promise<Target> } {
  const destinations = createVersions(params.readDestinations)
  const connections = createVersions(params.readConnections)
  return {
    async get(leased) {
      const [destination, connection] = await Promise.all([
        destinations(leased.destinationId, leased.destinationVersion),
        connections(leased.connectionId, leased.connectionVersion),
      ])
      return { destination, connection }
    },
  }
}

/** The row may be newer than the version asked for: newer still stands closer to the attempt. */
function createVersions<I extends string, T>(read: (ids: readonly I[]) => Promise<T[]>): (id: I, version: number) => Promise<T> {
  const known = new Map<string, Promise<T>>()
  return (id, version) => {
    const key = `${id} ${version}`
    const found = known.get(key)
    if (found) return found
    const reading = read([id]).then(([row]) => {
      if (row === undefined) throw new Error(`${id} is in no table`)
      return row
    })
    known.set(key, reading)
    reading.catch(() => known.delete(key))
    const [oldest] = known.keys()
    if (known.size > versionsMax && oldest !== undefined) known.delete(oldest)
    return reading
  }
}
