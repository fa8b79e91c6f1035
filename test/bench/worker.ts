/**
 * A process of its own that answers questions over IPC: the generator, the sink and the relay. A worker ends when its
 * parent does, however that ended, because the channel closes.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export type Worker<Question, Answer> = {
  pid: number
  /** When it can answer without delay; never, if it ends before. */
  started: Promise<void>
  ask(question: Question): Promise<Answer>
  stop(): Promise<void>
}

type Reply<Answer> = { id: number; answer: Answer } | { id: number; failure: string }
const started = 'started'

/** `file` is relative to this folder. Rejects all open questions when the process ends before it answered. */
export function startWorker<Question extends object, Answer>(file: string): Worker<Question, Answer> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const open = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>()
  let questions = 0
  const gone = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      for (const { reject } of open.values()) reject(new Error(`${file} ended (${signal ?? code}) before it answered`))
      open.clear()
      resolve()
    })
  })
  const ready = Promise.withResolvers<void>()
  child.on('message', (reply: Reply<Answer> | typeof started) => {
    if (reply === started) return ready.resolve()
    const asked = open.get(reply.id)
    open.delete(reply.id)
    if ('failure' in reply) asked?.reject(new Error(`${file}: ${reply.failure}`))
    else asked?.resolve(reply.answer)
  })
  return {
    pid: child.pid ?? 0,
    started: ready.promise,
    ask: (question) =>
      new Promise((resolve, reject) => {
        const id = ++questions
        open.set(id, { resolve, reject })
        child.send({ id, question }, (error) => {
          if (error) reject(error)
        })
      }),
    stop() {
      child.kill('SIGKILL')
      return gone
    },
  }
}

/** The other side: called once by a worker's file. */
export function answerQuestions<Question, Answer>(answer: (question: Question) => Answer | Promise<Answer>): void {
  process.once('disconnect', () => process.exit(0))
  // The parent decides when it's over; a terminal's Ctrl-C reaches the whole group and would cut its clean-up short.
  process.on('SIGINT', () => {})
  process.on('message', (asked: { id: number; question: Question }) => {
    void (async () => answer(asked.question))().then(
      (given) => process.send?.({ id: asked.id, answer: given } satisfies Reply<Answer>),
      (error: unknown) => process.send?.({ id: asked.id, failure: String(error) } satisfies Reply<Answer>),
    )
  })
  process.send?.(started)
}
