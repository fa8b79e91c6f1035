import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { noProbe } from '@tenterhook/schemas/probe'
import { routerVariables } from './config.ts'
import { routerService } from './router.ts'

await runService(await routerService(readEnvironment(routerVariables), noProbe))
