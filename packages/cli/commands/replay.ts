import { Command } from 'commander'
import { replayed } from './api-shapes.ts'
import { CommandError } from './command-error.ts'
import { reachConsole } from './console-client.ts'
import { mismatchWords } from './event-text.ts'
import type { Surroundings } from './surroundings.ts'

type Flags = { connection?: string[]; key?: string }

export function replayCommand(surroundings: Surroundings): Command {
  return new Command('replay')
    .description("deliver an event again, routed by today's rules")
    .argument('<event id>', 'evt_…')
    .option('--connection <name...>', "only over these of the source's connections")
    .option('--key <text>', 'the Idempotency-Key: a replay with the same key is done once')
    .action(async (id: string, { connection, key = surroundings.uniqueId() }: Flags) => {
      const { out, program } = surroundings
      const client = await reachConsole(surroundings)
      const answer = await withKey(key, () =>
        client.post(
          `/v1/events/${encodeURIComponent(id)}/replay`,
          { key, body: connection === undefined ? {} : { connections: connection } },
          replayed,
        ),
      )
      for (const delivery of answer.deliveries) out(`${delivery.connection.name}  ${delivery.id}`)
      for (const mismatch of answer.notMatched) out(`not matched  ${mismatchWords(mismatch)}`)
      if (answer.deliveries.length === 0) out('no connection matches: nothing is delivered')
      else out(`see how it goes: ${program} events get ${id}`)
    })
}

/** Without an answer nobody knows whether it was done; with the same key asking again does no harm. */
export async function withKey<T>(key: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof CommandError) || error.code !== 'console_unreachable') throw error
    throw new CommandError(error.code, `${error.message}; it may have been done: repeat it with --key ${key}`, {
      cause: error,
    })
  }
}
