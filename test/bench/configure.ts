import { randomUUID } from 'node:crypto'
import { connectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec } from '@tenterhook/schemas/destination'
import { newId } from '@tenterhook/schemas/ids'
import type { ConnectionId, DestinationId, SourceId } from '@tenterhook/schemas/ids'
import { sourceSpec } from '@tenterhook/schemas/source'
import { changeConfig, putConnection, putDestination, putSource } from '@tenterhook/store/config-change'
import { openStore } from '@tenterhook/store/connect'
import type { Stack } from './stack.ts'

export type SourceWish = {
  name: string
  /** A destination each. */
  urls: readonly string[]
  /** Of an attempt; the product's default without it. */
  timeout?: string
}

export type ConfiguredSource = {
  /** Where its senders post to. */
  url: string
  secret: string
  id: SourceId
  connections: readonly { id: ConnectionId; destinationId: DestinationId }[]
}

/**
 * Sources that prove GitHub's signature, each with connections of its own whose filters read the body and the type, each of
 * them to a destination of its own.
 */
export async function configure(
  { databaseUrl, keys, ingestUrl }: Pick<Stack, 'databaseUrl' | 'keys' | 'ingestUrl'>,
  wishes: readonly SourceWish[],
): Promise<ConfiguredSource[]> {
  const made = { managedBy: 'api' }
  const store = openStore({ connectionString: databaseUrl, applicationName: 'tenterhook-bench' })
  const configured: ConfiguredSource[] = []
  try {
    await changeConfig(store.durable, async (change) => {
      for (const { name: source, urls, timeout } of wishes) {
        const secret = randomUUID()
        const sourceId = newId('src', Date.now())
        const connections: { id: ConnectionId; destinationId: DestinationId }[] = []
        const spec = sourceSpec.parse({ name: source, verification: { scheme: 'github', secrets: [secret] } })
        await putSource(change, { ...made, id: sourceId, spec }, keys)
        for (const [n, url] of urls.entries()) {
          const [id, destinationId] = [newId('con', Date.now()), newId('dst', Date.now())]
          const name = `${source}-${n}`
          const destination = destinationSpec.parse({ name, url, ...(timeout !== undefined && { timeout }) })
          await putDestination(change, { ...made, id: destinationId, spec: destination }, keys)
          const connection = connectionSpec.parse({
            name,
            source,
            destination: name,
            filter: { type: 'push', 'body.repository.full_name': 'acme/shop' },
          })
          await putConnection(change, { ...made, id, spec: connection, sourceId, destinationId })
          connections.push({ id, destinationId })
        }
        configured.push({ url: `${ingestUrl}/${source}`, secret, id: sourceId, connections })
      }
    })
  } finally {
    await store.close()
  }
  return configured
}
