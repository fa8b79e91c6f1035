import { Command } from 'commander'
import { destinationPage, type Destination } from './api-shapes.ts'
import { reachConsole } from './console-client.ts'
import { destinationLines } from './destination-text.ts'
import type { Surroundings } from './surroundings.ts'

/** Few at a time: of each the console counts what waits the farther. */
const pageRowsMax = 20
const pagesMax = 500

export function destinationsCommand(surroundings: Surroundings): Command {
  return new Command('destinations')
    .description('every destination: whether it is well, and what waits for it')
    .option('--json', 'a JSON object a line, as the API gives it')
    .action(async ({ json = false }: { json?: boolean }) => {
      const { out, note } = surroundings
      const client = await reachConsole(surroundings)
      const found: Destination[] = []
      let next: string | null = ''
      for (let page = 0; page < pagesMax && next !== null; page++) {
        const cursor: string = next === '' ? '' : `&cursor=${encodeURIComponent(next)}`
        const read = await client.get(`/v1/destinations?limit=${pageRowsMax}${cursor}`, destinationPage)
        found.push(...read.data)
        next = read.next
      }
      if (json) for (const destination of found) out(JSON.stringify(destination))
      else for (const line of destinationLines(found)) out(line)
      if (next !== null) note(`there are more: these are the newest ${found.length}`)
    })
}
