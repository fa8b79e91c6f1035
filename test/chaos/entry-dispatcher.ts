import { dispatcherVariables } from '@tenterhook/dispatcher/config.ts'
import { dispatcherService } from '@tenterhook/dispatcher/dispatcher.ts'
import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { crashProbe, crashVariables } from './crash-probe.ts'

const environment = readEnvironment({ ...dispatcherVariables, ...crashVariables })
await runService(await dispatcherService(environment, crashProbe(environment.TENTERHOOK_TEST_CRASH_AT)))
