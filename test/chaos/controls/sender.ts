/** A sender that keeps a journal of what each event was answered, one event at a time. */
import { hash, randomUUID } from 'node:crypto'
import { acceptedAs, loadSource } from '../../support/load.ts'
import type { Answer, Sent } from '../../support/load.ts'
import { until } from '../../support/poll.ts'
import { send } from '../../support/send.ts'
import type { Stack } from '../../support/stack.ts'

export type Sender = {
  readonly sent: readonly Sent[]
  newEvent(): Sent
  /** Sends an event, a new one by default, and resolves when it was answered or can't be any more. */
  send(one?: Sent, origin?: string): Promise<void>
  /** Sends again what was not answered 2xx, as senders do, until all of it is. */
  resend(): Promise<void>
}

export function startSender(stack: Stack): Sender {
  const sent: Sent[] = []

  function newEvent(): Sent {
    const body = Buffer.from(JSON.stringify({ n: sent.length, customer: 'one', key: randomUUID() }))
    const one: Sent = { key: randomUUID(), body, sha256: hash('sha256', body, 'hex'), answers: [] }
    sent.push(one)
    return one
  }

  async function ask(one: Sent, origin: string): Promise<Answer> {
    const headers = [
      ['X-GitHub-Event', 'push'],
      ['X-GitHub-Delivery', one.key],
    ] as const
    const sentMs = performance.now()
    try {
      const { status, json } = await send(stack, loadSource, { headers, body: one.body, origin })
      const { id, duplicate, code } = json as { id?: string; duplicate?: boolean; code?: string }
      return { status, id, duplicate: duplicate === true, code, tookMs: performance.now() - sentMs }
    } catch (error) {
      // A connection that ended or never came to be, by the name that Node or undici gives it.
      if (error instanceof Error && 'code' in error) return 'broken'
      throw error
    }
  }

  const sendOne: Sender['send'] = async (one = newEvent(), origin = new URL(stack.ingestUrl).origin) => {
    one.answers.push(await ask(one, origin))
  }

  return {
    sent,
    newEvent,
    send: sendOne,
    async resend() {
      await until(
        async () => {
          const refused = sent.filter((one) => acceptedAs(one) === undefined)
          await Promise.all(refused.map((one) => sendOne(one)))
          return sent.every((one) => acceptedAs(one) !== undefined)
        },
        { what: 'every event to be accepted in the end', timeoutMs: 20_000, everyMs: 100 },
      )
    },
  }
}
