import { connect } from 'node:net'

export type PingOutcome = { kind: 'ready' } | { kind: 'not_yet' } | { kind: 'refused'; answer: string }

const pingTimeoutMs = 1_000
const answerBytesMax = 1_024

/**
 * Asks a Redis on 127.0.0.1 for PONG under a password. `not_yet`: no answer, or still reading its file; `refused`: it
 * is up and won't have us. Inline commands, so that waiting for Redis needs no client.
 */
export function pingRedis({ port, password }: { port: number; password: string }): Promise<PingOutcome> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    let answer = ''
    const settle = (outcome: PingOutcome) => {
      socket.destroy()
      resolve(outcome)
    }
    socket.setTimeout(pingTimeoutMs, () => settle({ kind: 'not_yet' }))
    socket.on('error', () => settle({ kind: 'not_yet' }))
    socket.on('close', () => settle({ kind: 'not_yet' }))
    socket.on('connect', () => socket.write(`AUTH ${password}\r\nPING\r\n`))
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1')
      if (answer.includes('-LOADING')) settle({ kind: 'not_yet' })
      else if (answer.includes('+PONG')) settle({ kind: 'ready' })
      else if (answer.startsWith('-') || answer.length > answerBytesMax)
        settle({ kind: 'refused', answer: answer.trim() })
    })
  })
}
