import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'

/**
 * Plays a service in the tests of the local run: ready at once on its ops port; when told to stop it drains for
 * `DRAIN_MS`, and only says `drained` if Postgres and Redis still took connections at the end of it; told twice, it
 * ends at once.
 */
const [name = '', journal = ''] = process.argv.slice(2)
const { DATABASE_URL = '', REDIS_URL = '', TENTERHOOK_OPS_PORT, DRAIN_MS } = process.env

const note = (word: string) => appendFileSync(journal, `${name} ${word}\n`)

createServer((_request, response) => response.end()).listen(Number(TENTERHOOK_OPS_PORT), '127.0.0.1')
note(`started ${process.pid}`)

process.once('SIGTERM', () => {
  note('draining')
  process.once('SIGTERM', () => {
    note('was cut short')
    process.exit(1)
  })
  setTimeout(async () => {
    const both = await Promise.all([DATABASE_URL, REDIS_URL].map(takesConnections))
    note(both.every(Boolean) ? 'drained' : 'lost its servers')
    process.exit(0)
  }, Number(DRAIN_MS))
})

function takesConnections(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('connect', () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
  })
}
