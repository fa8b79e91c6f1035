import { routerVariables } from '@tenterhook/router/config.ts'
import { routerService } from '@tenterhook/router/router.ts'
import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { crashProbe, crashVariables } from './crash-probe.ts'

const environment = readEnvironment({ ...routerVariables, ...crashVariables })
await runService(await routerService(environment, crashProbe(environment.TENTERHOOK_TEST_CRASH_AT)))
