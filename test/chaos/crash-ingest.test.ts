import { provesCrashPoints } from './crash-points.ts'

provesCrashPoints({ service: 'ingest', redis: 'running' })
