import { durationMs } from '@tenterhook/schemas/duration'
import type { ConnectionId, DestinationId } from '@tenterhook/schemas/ids'
import type { Connection, Destination } from '@tenterhook/store/config'
import type { Leased } from '@tenterhook/store/lease'
import { createSigner, type Signer } from './sign.ts'

/** What an attempt is made with: URL, auth, secrets, limits, schedule, as they stand at the attempt. */
export interface Target {
  destination: Destination
  connection: Connection
  signer: Signer | undefined
  timeoutMs: number
  /** The wait before each retry. */
  scheduleMs: readonly number[]
}

interface CompiledDestination {
  destination: Destination
  signer: Signer | undefined
  timeoutMs: number
}
interface CompiledConnection {
  connection: Connection
  scheduleMs: readonly number[]
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
}): {
  get(
    leased: Pick<Leased, 'destinationId' | 'destinationVersion' | 'connectionId' | 'connectionVersion'>,
  ): Promise<Target>
} {
  const destinations = createVersions(params.readDestinations, (destination): CompiledDestination => ({
    destination,
    signer: destination.spec.signing && createSigner(destination.spec.signing.secrets),
    timeoutMs: durationMs(destination.spec.timeout),
  }))
  const connections = createVersions(params.readConnections, (connection): CompiledConnection => ({
    connection,
    scheduleMs: connection.spec.retry.schedule.map(durationMs),
  }))
  return {
    async get(leased) {
      const [destination, connection] = await Promise.all([
        destinations(leased.destinationId, leased.destinationVersion),
        connections(leased.connectionId, leased.connectionVersion),
      ])
      return { ...destination, ...connection }
    },
  }
}

/** The row may be newer than the version asked for: newer still stands closer to the attempt. */
function createVersions<I extends string, Row, T>(
  read: (ids: readonly I[]) => Promise<Row[]>,
  compile: (row: Row) => T,
): (id: I, version: number) => Promise<T> {
  const known = new Map<string, Promise<T>>()
  return (id, version) => {
    const key = `${id} ${version}`
    const found = known.get(key)
    if (found) return found
    const reading = read([id]).then(([row]) => {
      if (row === undefined) throw new Error(`${id} is in no table`)
      return compile(row)
    })
    known.set(key, reading)
    reading.catch(() => known.delete(key))
    const [oldest] = known.keys()
    if (known.size > versionsMax && oldest !== undefined) known.delete(oldest)
    return reading
  }
}
