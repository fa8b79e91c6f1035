import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { noProbe } from '@tenterhook/schemas/probe'
import { dispatcherVariables } from './config.ts'
import { dispatcherService } from './dispatcher.ts'

await runService(await dispatcherService(readEnvironment(dispatcherVariables), noProbe))
