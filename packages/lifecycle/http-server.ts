import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Component } from './component.ts'

export type HttpServerComponent = Component & {
  /** Where the server listens, `http://host:port`, with the real port when it was asked for port 0. */
  url(): string
}

/** The port or host can't be had. The message is one line for the operator and names the variable to change. */
class ListenError extends Error {
  readonly code: 'port_in_use' | 'port_not_permitted' | 'host_not_available' | 'listen_failed'
  constructor(code: ListenError['code'], message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'ListenError'
    this.code = code
  }
}

/**
 * Runs a `node:http` server as a component. Once `draining` aborts, every answer carries `Connection: close`, so that
 * clients and load balancers turn elsewhere while requests are still served. `stop` takes no new connection, closes
 * the idle ones, waits for requests in flight, and destroys what is left when its signal aborts.
 *
 * `portVariable` is the environment variable that sets the port, for the error message.
 */
export function httpServer({
  name,
  server,
  host,
  port,
  portVariable,
  draining,
}: {
  name: string
  server: Server
  host: string
  port: number
  portVariable: string
  draining: AbortSignal
}): HttpServerComponent {
  const open = new Set<ServerResponse>()
  const connections = new Set<Socket>()
  let stopping = false

  server.on('connection', (socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })

  // First of the listeners: the header must be set before any handler can write its answer.
  server.prependListener('request', (_request, response) => {
    open.add(response)
    if (draining.aborted) response.setHeader('Connection', 'close')
    response.once('close', () => {
      open.delete(response)
      // Node closes idle connections once, in close(); one that turns idle later would hold the server open.
      if (stopping) setImmediate(() => server.closeIdleConnections())
    })
  })

  async function start(): Promise<void> {
    const listening = Promise.withResolvers<void>()
    server.once('error', listening.reject)
    server.listen({ host, port }, listening.resolve)
    try {
      await listening.promise
    } catch (error) {
      throw listenError({ error, host, port, portVariable })
    } finally {
      server.removeListener('error', listening.reject)
    }
  }

  async function stop(signal: AbortSignal): Promise<void> {
    stopping = true
    const closed = Promise.withResolvers<void>()
    server.close(() => closed.resolve())
    // Node takes a connection without a request for a busy one; those that browsers and pools open ahead would hold up
    // the stop until its grace is over.
    for (const socket of connections) if (socket.bytesRead === 0) socket.destroy()
    for (const response of open) if (!response.headersSent) response.setHeader('Connection', 'close')
    const destroy = () => server.closeAllConnections()
    if (signal.aborted) destroy()
    else signal.addEventListener('abort', destroy, { once: true })
    await closed.promise
    signal.removeEventListener('abort', destroy)
  }

  return {
    name,
    start,
    stop,
    url: () => {
      const { address, family, port: bound } = server.address() as AddressInfo
      return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
    },
  }
}

function listenError({
  error,
  host,
  port,
  portVariable,
}: {
  error: unknown
  host: string
  port: number
  portVariable: string
}): ListenError {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  switch (code) {
    case 'EADDRINUSE':
      return new ListenError(
        'port_in_use',
        `port ${port} on ${host} is in use by another program; stop it or set ${portVariable} to a free port`,
        error,
      )
    case 'EACCES':
      return new ListenError(
        'port_not_permitted',
        `port ${port} may not be opened by this user; set ${portVariable} to 1024 or above`,
        error,
      )
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new ListenError('host_not_available', `${host} is no address of this machine; change HOST`, error)
    default:
      return new ListenError('listen_failed', `can't listen on ${host}:${port} (${code ?? String(error)})`, error)
  }
}
