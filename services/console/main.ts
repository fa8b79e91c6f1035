import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { consoleVariables } from './config.ts'
import { consoleService } from './console.ts'

await runService(await consoleService(readEnvironment(consoleVariables)))
