import { provesCrashPoints } from './crash-points.ts'

provesCrashPoints('ingest')
