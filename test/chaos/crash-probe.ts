import { oneOf } from '@tenterhook/lifecycle/variables'
import { crashPoints } from '@tenterhook/schemas/probe'
import type { Probe } from '@tenterhook/schemas/probe'

/** In which turns at a point a process can be told to die. */
export const hits = [1, 2, 3] as const

/** Read by the entries beside this file, and by nothing in production: `router.after_route:2`. */
export const crashVariables = {
  TENTERHOOK_TEST_CRASH_AT: oneOf(crashPoints.flatMap((point) => hits.map((hit) => `${point}:${hit}`))),
}

/** Ends this process, as kill -9 does, when it passes the point for the nth time: not one more instruction runs. */
export function crashProbe(at: string): Probe {
  const [wanted, hit] = at.split(':')
  let passed = 0
  return (point) => {
    if (point !== wanted) return
    passed += 1
    if (passed === Number(hit)) process.kill(process.pid, 'SIGKILL')
  }
}
