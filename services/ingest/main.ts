import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { noProbe } from '@tenterhook/schemas/probe'
import { ingestVariables } from './config.ts'
import { ingestService } from './ingest.ts'

await runService(await ingestService(readEnvironment(ingestVariables), noProbe))
