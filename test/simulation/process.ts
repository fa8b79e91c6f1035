/**
 * Owns who may take the next step. A process is a set of coroutines over one memory; a coroutine is a generator, and
 * what it does between two yields is one step, which nothing interrupts. A kill takes a process's coroutines and memory
 * at any step boundary and starts it anew; a pause leaves both and stops its steps.
 */

/** When the next step may be taken: at once, or when this holds. */
export type Wait = (() => boolean) | undefined

export type Steps<Result = void> = Generator<Wait, Result, void>

export interface Process {
  readonly name: string
  /** Grows with each kill: what an earlier life held (jobs, calls) is nobody's. */
  life: number
  paused: boolean
  /** Starts the coroutines, with an empty memory. */
  readonly begin: (self: Process) => void
}

export interface Coroutine {
  readonly process: Process
  readonly steps: Steps
  /** Of a loop that looks for what is overdue: it gets few of the steps, as it does in real time. */
  readonly isSweep: boolean
  wait: Wait
  /** Slow, not faulty: it takes no step, and time waits for what it promised. */
  isHeldUp: boolean
}

export interface Machine {
  readonly coroutines: readonly Coroutine[]
  readonly processes: readonly Process[]
  add(name: string, begin: Process['begin']): Process
  spawn(process: Process, steps: Steps): Coroutine
  spawnSweep(process: Process, steps: Steps): Coroutine
  drop(coroutine: Coroutine): void
  /** Ends all coroutines of a process, without their `finally`: as SIGKILL does. */
  dropAll(process: Process): void
}

export function createMachine(): Machine {
  let coroutines: Coroutine[] = []
  const processes: Process[] = []
  const spawn = (process: Process, steps: Steps, isSweep: boolean) => {
    const coroutine = { process, steps, isSweep, wait: undefined, isHeldUp: false }
    coroutines.push(coroutine)
    return coroutine
  }
  return {
    get coroutines() {
      return coroutines
    },
    processes,
    add(name, begin) {
      const process = { name, life: 0, paused: false, begin }
      processes.push(process)
      return process
    },
    spawn: (process, steps) => spawn(process, steps, false),
    spawnSweep: (process, steps) => spawn(process, steps, true),
    drop(coroutine) {
      coroutines.splice(coroutines.indexOf(coroutine), 1)
    },
    dropAll(process) {
      coroutines = coroutines.filter((coroutine) => coroutine.process !== process)
    },
  }
}

export function isReady({ process, wait, isHeldUp }: Coroutine): boolean {
  return !process.paused && !isHeldUp && (wait === undefined || wait())
}
