/** The bare relay: what the same pipe costs with no proof, no storage, no routing and no promise. */
import { createServer } from 'node:http'
import { Pool } from 'undici'
import { answerQuestions } from './worker.ts'

export type RelayQuestion = { sinkUrl: string }

answerQuestions<RelayQuestion, { url: string }>(async ({ sinkUrl }) => {
  const pool = new Pool(sinkUrl, { connections: 64 })
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    pool
      .request({ path: '/0', method: 'POST', headers: { 'content-type': 'application/json' }, body: request })
      .then(async (answer) => {
        await answer.body.dump()
        response.writeHead(200, { 'content-length': 0 }).end()
      })
      .catch(() => response.writeHead(502).end())
  })
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 }, resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the relay has no port')
  return { url: `http://127.0.0.1:${address.port}/` }
})
