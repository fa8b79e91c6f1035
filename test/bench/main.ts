/**
 * `npm run bench`: what the product carries on this machine, each figure beside one it can be compared with. Without a name
 * it is throughput.ts; `fairness` and `backlog` each have a file of their name.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { backlog } from './backlog.ts'
import { UsageError } from './command.ts'
import type { Command } from './command.ts'
import { fairness } from './fairness.ts'
import { makeHome } from './home.ts'
import { describeMachine } from './machine.ts'
import { throughput } from './throughput.ts'

const named: Readonly<Record<string, Command>> = { fairness, backlog }
const root = fileURLToPath(new URL('../../', import.meta.url))

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function isMisuse(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return error instanceof UsageError || code.startsWith('ERR_PARSE_ARGS')
}

const [first = '', ...rest] = process.argv.slice(2)
const asked = named[first]
const [command, args] = asked === undefined ? [throughput, process.argv.slice(2)] : [asked, rest]
if (args.includes('--help') || args.includes('-h')) {
  const shown = asked === undefined ? [throughput, ...Object.values(named)] : [asked]
  say(shown.map(({ help }) => help).join('\n\n'))
  process.exit()
}

const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => stopping.abort(new Error(`stopped by ${name}`)))
const stopped = new Promise<never>((_resolve, reject) =>
  stopping.signal.addEventListener('abort', () => reject(stopping.signal.reason)),
)
stopped.catch(() => {})
const resources = new AsyncDisposableStack()

async function bench() {
  const home = await makeHome(join(root, '.tenterhook'), process.pid)
  resources.defer(() => rm(home, { recursive: true, force: true, maxRetries: 3 }))
  say(await describeMachine(home))
  return command.run(args, {
    root,
    home,
    env: process.env,
    resources,
    signal: stopping.signal,
    say,
    onDeath: (error) => stopping.abort(error),
  })
}

try {
  const findings = await Promise.race([bench(), stopped])
  say(`\n${findings.text}`)
  if (findings.json) say(JSON.stringify(findings.summary))
  if (!findings.holds) process.exitCode = 1
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  if (isMisuse(error)) process.stderr.write(`${command.help}\n`)
  process.exitCode = 1
} finally {
  await resources.disposeAsync()
}
process.exit()
