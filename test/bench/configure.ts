import { randomUUID } from 'node:crypto'
import { connectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec } from '@tenterhook/schemas/destination'
import { newId } from '@tenterhook/schemas/ids'
import { sourceSpec } from '@tenterhook/schemas/source'
import { changeConfig, putConnection, putDestination, putSource } from '@tenterhook/store/config-change'
import { openStore } from '@tenterhook/store/connect'
import type { EncryptionKeys } from '@tenterhook/store/secrets'

export type Configured = { source: string; secret: string }

type Setting = { databaseUrl: string; keys: EncryptionKeys; sinkUrl: string; fanOut: number }

/**
 * A source that proves GitHub's signature, and `fanOut` connections whose filter reads the body and the type, each to a
 * destination of its own at the sink (`/0`, `/1` …).
 */
export async function configure({ databaseUrl, keys, sinkUrl, fanOut }: Setting): Promise<Configured> {
  const source = `bench-${fanOut}`
  const secret = randomUUID()
  const made = { managedBy: 'api' }
  const store = openStore({ connectionString: databaseUrl, applicationName: 'tenterhook-bench' })
  try {
    await changeConfig(store.durable, async (change) => {
      const sourceId = newId('src', Date.now())
      const spec = sourceSpec.parse({ name: source, verification: { scheme: 'github', secrets: [secret] } })
      await putSource(change, { ...made, id: sourceId, spec }, keys)
      for (let n = 0; n < fanOut; n++) {
        const destinationId = newId('dst', Date.now())
        const destination = destinationSpec.parse({ name: `${source}-${n}`, url: `${sinkUrl}/${n}` })
        await putDestination(change, { ...made, id: destinationId, spec: destination }, keys)
        const connection = connectionSpec.parse({
          name: `${source}-${n}`,
          source,
          destination: destination.name,
          filter: { type: 'push', 'body.repository.full_name': 'acme/shop' },
        })
        await putConnection(change, {
          ...made,
          id: newId('con', Date.now()),
          spec: connection,
          sourceId,
          destinationId,
        })
      }
    })
  } finally {
    await store.close()
  }
  return { source, secret }
}
