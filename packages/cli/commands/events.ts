import { Command } from 'commander'
import { eventsGetCommand } from './events-get.ts'
import { eventsTailCommand } from './events-tail.ts'
import type { Surroundings } from './surroundings.ts'

export function eventsCommand(surroundings: Surroundings): Command {
  return new Command('events')
    .description('what came in, and what became of it')
    .addCommand(eventsTailCommand(surroundings))
    .addCommand(eventsGetCommand(surroundings))
}
