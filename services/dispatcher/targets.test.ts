import { expect, test } from 'vitest'
import { connectionSpec } from '@tenterhook/schemas/connection'
import { destinationSpec } from '@tenterhook/schemas/destination'
import type { ConnectionId, DestinationId, SourceId } from '@tenterhook/schemas/ids'
import { createTargets } from './targets.ts'

const destinationId = 'dst_1' as DestinationId
const connectionId = 'con_1' as ConnectionId
const lease = (version: number) => ({ destinationId, destinationVersion: version, connectionId, connectionVersion: 1 })

function setup() {
  const reads: string[] = []
  let version = 1
  let fails = false
  const targets = createTargets({
    readDestinations: async (ids) => {
      reads.push(...ids)
      if (fails) throw new Error('down')
      return [
        {
          id: destinationId,
          version,
          managedBy: 'test',
          spec: destinationSpec.parse({ name: 'd', url: `http://v${version}.test/`, timeout: '2s' }),
        },
      ]
    },
    readConnections: async () => [
      {
        id: connectionId,
        version: 1,
        managedBy: 'test',
        sourceId: 'src_1' as SourceId,
        destinationId,
        spec: connectionSpec.parse({ name: 'c', source: 's', destination: 'd', retry: { schedule: ['1s', '2m'] } }),
      },
    ],
  })
  return { targets, reads, setVersion: (next: number) => (version = next), setFails: (next: boolean) => (fails = next) }
}

test('a version is read once, and a new one is read when a lease names it', async () => {
  const { targets, reads, setVersion } = setup()
  expect(await targets.get(lease(1))).toMatchObject({
    timeoutMs: 2_000,
    scheduleMs: [1_000, 120_000],
    destination: { spec: { url: 'http://v1.test/' } },
  })
  await targets.get(lease(1))
  expect(reads).toHaveLength(1)
  setVersion(2)
  expect(await targets.get(lease(2))).toMatchObject({ destination: { spec: { url: 'http://v2.test/' } } })
  expect(reads).toHaveLength(2)
})

test('a reading that failed is not remembered', async () => {
  const { targets, setFails } = setup()
  setFails(true)
  await expect(targets.get(lease(1))).rejects.toThrow('down')
  setFails(false)
  expect(await targets.get(lease(1))).toMatchObject({ timeoutMs: 2_000 })
})
