import { accept, type Acceptance, type NewEvent } from './accept.ts'
import type { Call, CallAnswer } from './history.ts'
import type { Process, Steps } from './process.ts'
import type { World } from './world.ts'

const batchesInFlightMax = 2
const batchRowsMax = 3

/** A copy of ingest: group commit (T1), answer, route job. */
export interface Ingest {
  readonly process: Process
  submit(call: Call): void
}

export function startIngest(world: World, name: string): Ingest {
  const { flaws, history, postgres, redis, machine } = world
  /** Memory of the process: gone with it. */
  let inbox: Call[] = []
  let unanswered: Call[] = []
  let keysSeen = new Map<string, string>()
  let toRoute: string[] = []

  function* flush(self: Process): Steps {
    for (;;) {
      yield () => inbox.length > 0
      const taken = inbox.splice(0, batchRowsMax)
      const { leaders, followers } = fold(taken.filter((call) => !isClaimed(call)))
      const batch = leaders.map((call) => ({ id: eventId(call), call }))
      if (flaws.answerBeforeCommit) for (const { id, call } of batch) answer(call, { kind: 'accepted', event: id })
      if (batch.length === 0) continue
      world.passed = 'ingest.before_commit'
      yield
      const outcomes = yield* commit(self, batch)
      world.passed = 'ingest.after_commit'
      yield
      for (const [call, outcome] of outcomes) {
        answer(call, outcome)
        if (outcome.kind === 'accepted') toRoute.push(outcome.event)
        for (const follower of followers.get(call) ?? []) answer(follower, answerToFollower(outcome))
      }
      world.passed = 'ingest.after_answer'
      yield
    }
  }

  /** Answers each call of a batch; bisects only what Postgres refused for a row, before the commit. */
  function* commit(self: Process, batch: readonly NewEvent[]): Steps<[Call, CallAnswer][]> {
    const reply = yield* postgres.query({
      name: 'T1',
      client: self,
      synchronous: !flaws.asyncAccept,
      body: (tx) => accept(tx, world, batch),
    })
    switch (reply.kind) {
      case 'committed':
        return batch.map(({ call }, i): [Call, CallAnswer] => [call, answerTo(reply.value[i])])
      case 'unknown':
        if (flaws.unknownCommitAnswered) return batch.map(({ id, call }) => [call, { kind: 'accepted', event: id }])
        if (!flaws.failedCommitBisected) return batch.map(({ call }) => [call, { kind: 'unavailable' }])
        return yield* bisect(
          self,
          batch.map(({ id, call }) => ({ id: `${id}'`, call })),
        )
      case 'refused':
        if (reply.reason === 'deadlock') return batch.map(({ call }) => [call, { kind: 'unavailable' }])
        return yield* bisect(self, batch)
    }
  }

  function* bisect(self: Process, batch: readonly NewEvent[]): Steps<[Call, CallAnswer][]> {
    const [first] = batch
    if (first && batch.length === 1) return [[first.call, { kind: 'refused' }]]
    history.see('batch bisected')
    const half = Math.ceil(batch.length / 2)
    return [...(yield* commit(self, batch.slice(0, half))), ...(yield* commit(self, batch.slice(half)))]
  }

  /** Flawed variants answer a duplicate before the first one's commit. */
  function isClaimed(call: Call): boolean {
    const claims = flaws.dedupeInMemory ? keysSeen : flaws.dedupeInRedis && redis.up ? redis.texts : undefined
    if (claims === undefined || call.key === null) return false
    const first = claims.get(call.key)
    if (first === undefined) claims.set(call.key, eventId(call))
    else answer(call, { kind: 'duplicate', event: first })
    return first !== undefined
  }

  function answer(call: Call, outcome: CallAnswer): void {
    if (call.answer !== undefined) return
    world.say?.(`${call.name} is answered: ${outcome.kind}${'event' in outcome ? ` ${outcome.event}` : ''}`)
    if (outcome.kind === 'duplicate') history.see('duplicate answered')
    call.answer = outcome
    unanswered = unanswered.filter((other) => other !== call)
    if (!('event' in outcome)) return
    for (const turn of history.turns.values()) if (turn.event === outcome.event) turn.answeredAt ??= world.step
  }

  function fold(calls: readonly Call[]): { leaders: Call[]; followers: Map<Call, Call[]> } {
    const leaders: Call[] = []
    const followers = new Map<Call, Call[]>()
    for (const call of calls) {
      const leader = call.key === null ? undefined : leaders.find((other) => other.key === call.key)
      if (leader === undefined) leaders.push(call)
      else followers.set(leader, [...(followers.get(leader) ?? []), call])
    }
    if (followers.size > 0) history.see('requests folded in a batch')
    return { leaders, followers }
  }

  /** After the answer, best effort: the route job, of all events that gathered. */
  function* produce(): Steps {
    for (;;) {
      yield () => toRoute.length > 0
      const hints = toRoute.splice(0).map((id) => ({ id, generation: 0 }))
      world.say?.(`${name} adds a route job for ${hints.map(({ id }) => id).join(', ')}`)
      redis.add({ id: `r-${hints[0]?.id}`, queue: 'route', hints })
    }
  }

  const process = machine.add(name, (self) => {
    for (const call of unanswered) call.answer = { kind: 'unavailable' }
    unanswered = []
    inbox = []
    keysSeen = new Map()
    toRoute = []
    for (let i = 0; i < batchesInFlightMax; i++) world.machine.spawn(self, flush(self))
    world.machine.spawn(self, produce())
  })
  return {
    process,
    submit(call) {
      inbox.push(call)
      unanswered.push(call)
    },
  }
}

const eventId = (call: Call) => `e${call.name}`

function answerTo(acceptance: Acceptance | undefined): CallAnswer {
  return acceptance ?? { kind: 'unavailable' }
}

function answerToFollower(outcome: CallAnswer): CallAnswer {
  switch (outcome.kind) {
    case 'accepted':
    case 'duplicate':
      return { kind: 'duplicate', event: outcome.event }
    // The first one's data was refused, not this one's, which was never tried.
    case 'refused':
    case 'unavailable':
      return { kind: 'unavailable' }
  }
}
