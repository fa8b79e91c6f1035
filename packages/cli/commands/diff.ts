import { readConfig } from '@tenterhook/store/config'
import { Command } from 'commander'
import { planChanges, planText } from '../config/plan.ts'
import { configEnvironment, findConfigFile, readConfigFile } from './config-file.ts'
import { withStore } from './database.ts'
import type { Surroundings } from './surroundings.ts'

/** As `diff` and `terraform plan -detailed-exitcode` tell scripts that there is a difference. */
const differsExitCode = 2

export function diffCommand(surroundings: Surroundings): Command {
  return new Command('diff')
    .description(`show what \`apply\` would change; exits with ${differsExitCode} when there is something`)
    .argument('[file]')
    .action(async (file: string | undefined) => {
      const path = await findConfigFile(file, surroundings)
      const desired = await readConfigFile(path, await configEnvironment(surroundings), surroundings)
      const current = await withStore(surroundings, ({ store, keys }) => readConfig(store.durable, keys))
      const steps = planChanges(current, desired)
      surroundings.out(planText(steps))
      if (steps.length > 0) surroundings.exitWith(differsExitCode)
    })
}
