import { z } from 'zod'
import type { RunningState } from '../local/home.ts'
import { probePort } from '../local/ports.ts'
import { CommandError } from './command-error.ts'
import { causeOf, reachConsole } from './console-client.ts'
import { fail, ok, warn, type Check } from './doctor-check.ts'
import { printable, shortened } from './printable.ts'
import type { Surroundings } from './surroundings.ts'

const requestTimeoutMs = 3_000
const saidCharsMax = 300
const readiness = z.object({ ok: z.boolean(), phase: z.string(), checks: z.record(z.string(), z.string()) })

/** The four services of a running copy, by their own word, and the ports that people and senders use. */
export async function checkServices(
  state: RunningState,
  surroundings: Pick<Surroundings, 'env' | 'home' | 'program'>,
): Promise<Check[]> {
  return Promise.all([
    ...Object.entries(state.opsUrls).map(([name, url]) => checkReadiness(name, url)),
    checkIngest(state.ingestUrl),
    checkConsole(state.consoleUrl, surroundings),
  ])
}

const seeLog = 'see its log in .tenterhook/logs; `up` starts what dies again'

async function checkReadiness(name: string, url: string): Promise<Check> {
  try {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(requestTimeoutMs) })
    const { ok: isReady, phase, checks } = readiness.parse(await response.json())
    const said = Object.entries(checks).map(([what, result]) => `${what} ${shortened(printable(result), saidCharsMax)}`)
    const says = [phase, ...said].join(', ')
    return isReady ? ok(name, says) : fail(name, says, seeLog)
  } catch (error) {
    return fail(name, `${url} does not answer (${causeOf(error)})`, seeLog)
  }
}

async function checkIngest(url: string): Promise<Check> {
  try {
    // Anything will do: only webhooks are at home there.
    const response = await fetch(url, { signal: AbortSignal.timeout(requestTimeoutMs) })
    await response.body?.cancel()
    return ok('senders', `ingest answers at ${url}/in/<source>`)
  } catch (error) {
    return fail('senders', `ingest does not answer at ${url} (${causeOf(error)})`, seeLog)
  }
}

async function checkConsole(url: string, surroundings: Pick<Surroundings, 'env' | 'home' | 'program'>): Promise<Check> {
  try {
    const client = await reachConsole(surroundings)
    await client.get('/v1/sources?limit=1', z.unknown())
    return ok('people', `the console answers at ${url} and takes the admin token`)
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    // A console that reads the kept file takes what is in it: one that refuses it was given another by the variable.
    const otherToken = surroundings.env['TENTERHOOK_ADMIN_TOKEN']
      ? "unset TENTERHOOK_ADMIN_TOKEN here, or set it to the console's"
      : 'the console was started with TENTERHOOK_ADMIN_TOKEN: start it again without the variable, or set it here too'
    return fail('people', error.message, error.code === 'token_wrong' ? otherToken : seeLog)
  }
}

/** Whether `up` would find its ports. */
export async function checkPorts(ports: Readonly<Record<'ingest' | 'console' | 'demo', number>>): Promise<Check[]> {
  const checks: Check[] = []
  for (const [name, port] of Object.entries(ports)) {
    if (port === 0) continue
    const found = await probePort(port)
    if (found === 'free') checks.push(ok('port', `${port} (${name}) is free`))
    else {
      const why = found === 'taken' ? 'is in use by another program' : 'may not be listened on by this user'
      checks.push(
        warn('port', `${port} (${name}) ${why}`, `choose another with TENTERHOOK_${name.toUpperCase()}_PORT=…`),
      )
    }
  }
  return checks
}
