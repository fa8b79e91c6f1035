import type { ServerResponse } from 'node:http'
import { until } from '../../support/poll.ts'
import type { Receiver } from '../../support/receiver.ts'

/** A destination that leaves every request open until the test answers it. */
export type Gate = {
  /** Requests so far. */
  count(): number
  /** Requests that are open now. */
  open(): number
  /** Until so many requests have come in all. */
  arrived(requests: number): Promise<void>
  /** Answers one of them, counted from 0. */
  answer(index: number, status: number): void
  /** From now on, and for all that are open, 200. */
  letAllPass(): void
}

export function gateAt(receiver: Receiver, path: string): Gate {
  const responses: ServerResponse[] = []
  let passes = false
  const answer = (response: ServerResponse | undefined, status: number) => {
    if (response?.writableEnded === false) response.writeHead(status, { 'content-length': 0 }).end()
  }
  receiver.on(path, (_request, response) => {
    responses.push(response)
    if (passes) answer(response, 200)
  })
  return {
    count: () => responses.length,
    open: () => responses.filter(({ writableEnded, destroyed }) => !writableEnded && !destroyed).length,
    arrived: async (requests) =>
      void (await until(() => responses.length >= requests, { what: `${requests} requests to have come` })),
    answer: (index, status) => answer(responses[index], status),
    letAllPass() {
      passes = true
      for (const response of responses) answer(response, 200)
    },
  }
}
