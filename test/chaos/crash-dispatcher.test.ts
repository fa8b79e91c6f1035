import { provesCrashPoints } from './crash-points.ts'

provesCrashPoints('dispatcher')
