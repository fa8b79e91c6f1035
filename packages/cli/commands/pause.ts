import { Argument, Command } from 'commander'
import { pausable } from './api-shapes.ts'
import { reachConsole } from './console-client.ts'
import { printable } from './printable.ts'
import type { Surroundings } from './surroundings.ts'

type Kind = 'destination' | 'connection'
const kind = () => new Argument('<kind>', 'what it is').choices(['destination', 'connection'])

export function pauseCommand(surroundings: Surroundings): Command {
  return new Command('pause')
    .description('hold what goes to a destination, or over a connection, until it is resumed')
    .addArgument(kind())
    .argument('<name>', 'its name or id')
    .option('--reason <text>', 'shown with it, and with what it holds')
    .action(async (of: Kind, name: string, { reason }: { reason?: string }) => {
      const { paused, pauseReason } = await act(surroundings, of, name, 'pause', reason === undefined ? {} : { reason })
      // One that was paused before keeps its reason.
      if (paused) surroundings.out(`${of} ${name} is paused: ${printable(pauseReason ?? 'no reason given')}`)
    })
}

export function resumeCommand(surroundings: Surroundings): Command {
  return new Command('resume')
    .description('let what was held go, oldest first; of a destination this closes the breaker too')
    .addArgument(kind())
    .argument('<name>', 'its name or id')
    .action(async (of: Kind, name: string) => {
      await act(surroundings, of, name, 'resume', {})
      surroundings.out(`${of} ${name} runs`)
    })
}

async function act(surroundings: Surroundings, of: Kind, name: string, verb: 'pause' | 'resume', body: object) {
  const client = await reachConsole(surroundings)
  const path = `/v1/${of}s/${encodeURIComponent(name)}/${verb}`
  return client.post(path, { key: surroundings.uniqueId(), body }, pausable)
}
