import { routerVariables } from '@tenterhook/router/config.ts'
import { routerService } from '@tenterhook/router/router.ts'
import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { noProbe } from '@tenterhook/schemas/probe'
import { hanging, shortLimits, watchdogVariables } from './watchdog-entry.ts'

const environment = readEnvironment({ ...routerVariables, ...watchdogVariables })
const service = await routerService(environment, noProbe, shortLimits(environment.TENTERHOOK_TEST_STALLED_MAX))
const components = environment.TENTERHOOK_TEST_HANGS ? hanging(service.components) : service.components
await runService({ ...service, components })
