import { Command } from 'commander'
import { applyConfig } from '../config/apply.ts'
import { planText } from '../config/plan.ts'
import { configEnvironment, findConfigFile, readConfigFile, refusalLines } from './config-file.ts'
import { withStore } from './database.ts'
import type { Surroundings } from './surroundings.ts'

export function applyCommand(surroundings: Surroundings): Command {
  return new Command('apply')
    .description('bring the configuration to what a file asks for: tenterhook.yaml here, else in the repository')
    .argument('[file]')
    .option('--prune', 'remove what has unfinished deliveries too; those that wait become dead letters')
    .action(async (file: string | undefined, { prune = false }: { prune?: boolean }) => {
      const { out, note, nowMs, exitWith } = surroundings
      const path = await findConfigFile(file, surroundings)
      const desired = await readConfigFile(path, await configEnvironment(surroundings), surroundings)
      const applied = await withStore(surroundings, ({ store, keys }) =>
        applyConfig(store, keys, desired, { prune, nowMs: nowMs() }),
      )
      switch (applied.kind) {
        case 'applied':
          out(planText(applied.steps))
          out(`applied as version ${applied.version}: the next event is routed by it`)
          return
        case 'unchanged':
          out('nothing to change')
          return
        case 'refused':
          for (const line of refusalLines(applied.refusals, 'say --prune')) note(line)
          note('nothing was changed')
          exitWith(1)
      }
    })
}
