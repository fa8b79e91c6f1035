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
