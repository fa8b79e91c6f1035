import { Command } from 'commander'
import { retried } from './api-shapes.ts'
import { reachConsole } from './console-client.ts'
import { withKey } from './replay.ts'
import type { Surroundings } from './surroundings.ts'

export function retryCommand(surroundings: Surroundings): Command {
  return new Command('retry')
    .description('another attempt of a delivery now, the same bytes; of a dead letter too')
    .argument('<delivery id>', 'dlv_…')
    .option('--key <text>', 'the Idempotency-Key: a retry with the same key is done once')
    .action(async (id: string, { key = surroundings.uniqueId() }: { key?: string }) => {
      const client = await reachConsole(surroundings)
      const { was } = await withKey(key, () =>
        client.post(`/v1/deliveries/${encodeURIComponent(id)}/retry`, { key }, retried),
      )
      surroundings.out(`it was ${was}, and is due now`)
    })
}
