import { Command } from 'commander'
import { cancelled } from './api-shapes.ts'
import { reachConsole } from './console-client.ts'
import type { Surroundings } from './surroundings.ts'

export function cancelCommand(surroundings: Surroundings): Command {
  return new Command('cancel')
    .description('end a delivery that has not ended')
    .argument('<delivery id>', 'dlv_…')
    .action(async (id: string) => {
      const client = await reachConsole(surroundings)
      const path = `/v1/deliveries/${encodeURIComponent(id)}/cancel`
      const { attemptInFlight } = await client.post(path, { key: surroundings.uniqueId() }, cancelled)
      const later = 'an attempt is under way: it is the last, and what it brings still counts'
      surroundings.out(attemptInFlight ? later : 'it is cancelled')
    })
}
