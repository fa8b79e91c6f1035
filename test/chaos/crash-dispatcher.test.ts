import { describe } from 'vitest'
import { provesCrashPoints } from './crash-points.ts'

describe('with Redis', () => {
  provesCrashPoints({ service: 'dispatcher', redis: 'running' })
})

describe('without Redis', () => {
  provesCrashPoints({ service: 'dispatcher', turns: [1], redis: 'never' })
})
