import { Agent, createServer, get } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { HttpServerComponent } from './http-server.ts'
import { httpServer } from './http-server.ts'

const started: HttpServerComponent[] = []
const aborted = AbortSignal.abort()

afterEach(async () => {
  for (const component of started.splice(0)) await component.stop(aborted)
})

async function serve({
  answer = (response: ServerResponse) => response.end('hello'),
  draining = new AbortController().signal,
  port = 0,
}: {
  answer?: (response: ServerResponse) => unknown
  draining?: AbortSignal
  port?: number
} = {}): Promise<{ component: HttpServerComponent; server: Server; url: string }> {
  const server = createServer((_request, response) => answer(response))
  const component = httpServer({ name: 'http', server, host: '127.0.0.1', port, portVariable: 'PORT', draining })
  await component.start()
  started.push(component)
  return { component, server, url: component.url() }
}

function ask(url: string, agent?: Agent): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => get(url, { agent }, resolve).on('error', reject))
}

const connections = (server: Server) =>
  new Promise<number>((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  )

describe('start', () => {
  test('listens, and tells the port that the system chose', async () => {
    const { url } = await serve()
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d+$/)
    expect(await text(await ask(url))).toBe('hello')
  })

  test('on a port in use fails with one line that names the port and the variable', async () => {
    const { url } = await serve()
    const port = Number(new URL(url).port)
    await expect(serve({ port })).rejects.toMatchObject({
      code: 'port_in_use',
      message: `port ${port} on 127.0.0.1 is in use by another program; stop it or set PORT to a free port`,
    })
  })

  test('on an address of another machine says so', async () => {
    const server = createServer()
    const draining = new AbortController().signal
    const component = httpServer({ name: 'http', server, host: '192.0.2.1', port: 0, portVariable: 'PORT', draining })
    await expect(component.start()).rejects.toMatchObject({ code: 'host_not_available' })
  })
})

describe('draining', () => {
  test('goes on serving, and closes each connection with its answer', async () => {
    const draining = new AbortController()
    const { url } = await serve({ draining: draining.signal })
    const agent = new Agent({ keepAlive: true })
    const before = await ask(url, agent)
    await text(before)
    expect(before.headers.connection).toBe('keep-alive')
    draining.abort()
    for (let request = 0; request < 2; request += 1) {
      const after = await ask(url, agent)
      expect(await text(after)).toBe('hello')
      expect(after.headers.connection).toBe('close')
    }
    agent.destroy()
  })
})

describe('stop', () => {
  test('closes idle connections at once and takes no new ones', async () => {
    const { component, url } = await serve()
    const agent = new Agent({ keepAlive: true })
    await text(await ask(url, agent))
    const begun = performance.now()
    await component.stop(new AbortController().signal)
    expect(performance.now() - begun).toBeLessThan(1000)
    await expect(ask(url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    agent.destroy()
  })

  test('waits for answers in flight, also those that have begun, and not for their connections to time out', async () => {
    const responses: ServerResponse[] = []
    const { component, url } = await serve({ answer: (response) => responses.push(response) })
    const agent = new Agent({ keepAlive: true })
    const unbegun = ask(url, agent)
    const begun = ask(url, agent)
    await vi.waitFor(() => expect(responses).toHaveLength(2))
    responses[1]?.writeHead(200).write('first, ')

    let stopped = false
    const stopping = component.stop(new AbortController().signal).then(() => (stopped = true))
    await expect(ask(url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    expect(stopped).toBe(false)

    responses[0]?.end('whole')
    responses[1]?.end('last')
    expect(await text(await unbegun)).toBe('whole')
    expect((await unbegun).headers.connection).toBe('close')
    expect(await text(await begun)).toBe('first, last')
    const ended = performance.now()
    await stopping
    expect(performance.now() - ended).toBeLessThan(1000)
    agent.destroy()
  })

  test('destroys what is left when its signal aborts', async () => {
    const responses: ServerResponse[] = []
    const { component, url } = await serve({ answer: (response) => responses.push(response) })
    const hanging = ask(url)
    hanging.catch(() => {})
    await vi.waitFor(() => expect(responses).toHaveLength(1))
    const grace = new AbortController()
    const stopping = component.stop(grace.signal)
    grace.abort()
    await stopping
    await expect(hanging).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  test('is not held up by a connection that never sent a request', async () => {
    const { component, server, url } = await serve()
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port) })
    await vi.waitFor(async () => expect(await connections(server)).toBe(1))
    const begun = performance.now()
    await component.stop(AbortSignal.timeout(10_000))
    expect(performance.now() - begun).toBeLessThan(1000)
    socket.destroy()
  })
})
