import { ingestVariables } from '@tenterhook/ingest/config.ts'
import { ingestService } from '@tenterhook/ingest/ingest.ts'
import { readEnvironment } from '@tenterhook/lifecycle/environment'
import { runService } from '@tenterhook/lifecycle/service'
import { crashProbe, crashVariables } from './crash-probe.ts'

const environment = readEnvironment({ ...ingestVariables, ...crashVariables })
await runService(await ingestService(environment, crashProbe(environment.TENTERHOOK_TEST_CRASH_AT)))
