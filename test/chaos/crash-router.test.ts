import { describe } from 'vitest'
import { provesCrashPoints } from './crash-points.ts'

describe('with Redis', () => {
  provesCrashPoints({ service: 'router', redis: 'running' })
})

describe('without Redis', () => {
  provesCrashPoints({ service: 'router', turns: [1], redis: 'never' })
})
