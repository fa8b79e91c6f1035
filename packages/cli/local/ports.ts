import { randomInt } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'

import { systemCode } from './setup-error.ts'

const host = '127.0.0.1'

/** Whether a server could listen on this port of 127.0.0.1 now; `forbidden`: below 1024, for an ordinary user. */
export async function probePort(port: number): Promise<'free' | 'taken' | 'forbidden'> {
  try {
    await listenOnce(port)
    return 'free'
  } catch (error) {
    if (systemCode(error) === 'EADDRINUSE') return 'taken'
    if (systemCode(error) === 'EACCES') return 'forbidden'
    throw error
  }
}

const triesMax = 20

/**
 * A port of 127.0.0.1 that nobody listens on and that is not among `chosen`: the preferred one if it is free, else one
 * that the system picks.
 */
export async function choosePort(preferred: number | undefined, chosen: readonly number[] = []): Promise<number> {
  if (preferred !== undefined && !chosen.includes(preferred) && (await probePort(preferred)) === 'free')
    return preferred
  let port = await listenOnce(0)
  for (let tries = 1; chosen.includes(port) && tries < triesMax; tries += 1) port = await listenOnce(0)
  return port
}

/** Below the ports that systems give to outgoing connections: Linux from 32768 on, others from 49152. */
const lastingPorts = { min: 20_000, max: 32_767 }

/**
 * A port to keep: the preferred one if it is free, else one that no outgoing connection of this machine can happen to
 * have while its server is away.
 */
export async function chooseLastingPort(preferred: number | undefined): Promise<number> {
  for (let tries = 0, port = preferred; tries < triesMax; tries += 1) {
    if (port !== undefined && (await probePort(port)) === 'free') return port
    port = randomInt(lastingPorts.min, lastingPorts.max + 1)
  }
  return listenOnce(0)
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ port, host, exclusive: true }, () => {
      const { port: bound } = server.address() as AddressInfo
      server.close(() => resolve(bound))
    })
  })
}
