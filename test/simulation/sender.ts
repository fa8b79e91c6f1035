import type { Call } from './history.ts'
import type { Ingest } from './ingest.ts'
import type { Process, Steps, Wait } from './process.ts'
import type { World } from './world.ts'

/** A sender tries once more, at the other copy, when it got no 2xx. */
const triesMax = 2

/** The senders of all requests; each keeps what it was answered. */
export function startSenders(world: World, copies: readonly Ingest[]): Process {
  const { plan, history, machine } = world
  const isDone = plan.requests.map(() => false)

  function* send(n: number): Steps {
    const request = plan.requests[n]
    if (request === undefined) return
    if (plan.sent === 'one by one' && n > 0) yield () => isDone[n - 1] === true
    for (let tries = 0; tries < triesMax; tries++) {
      const call: Call = {
        name: `${n + 1}.${tries}`,
        key: request.key,
        orderKey: request.orderKey,
        unstorable: request.unstorable,
        arrivedAt: world.step,
        answer: undefined,
      }
      history.calls.push(call)
      const copy = copies[(request.ingest + tries) % copies.length]
      world.say?.(
        `request ${call.name} (dedupe ${call.key ?? 'none'}, order ${call.orderKey}) arrives at ${copy?.process.name}`,
      )
      copy?.submit(call)
      yield () => call.answer !== undefined
      if (call.answer?.kind !== 'unavailable') break
    }
    isDone[n] = true
  }

  function* sendAtOnce(self: Process): Steps {
    for (const n of plan.requests.keys()) {
      const steps = send(n)
      const first = steps.next()
      machine.spawn(self, first.done === true ? steps : after(first.value, steps))
    }
    yield
  }

  return machine.add('senders', (self) => {
    if (plan.sent === 'at once') machine.spawn(self, sendAtOnce(self))
    else for (const n of plan.requests.keys()) machine.spawn(self, send(n))
  })
}

function* after(wait: Wait, steps: Steps): Steps {
  yield wait
  yield* steps
}
