import { statfs } from 'node:fs/promises'
import { Command } from 'commander'
import { databaseUrl, redisUrl } from '@tenterhook/lifecycle/variables'
import { readState } from '../local/home.ts'
import { systemCode } from '../local/setup-error.ts'
import { readVariable } from './database.ts'
import { checkLines, fail, ok, warn, type Check } from './doctor-check.ts'
import { checkPostgres } from './doctor-postgres.ts'
import { checkPorts, checkServices } from './doctor-services.ts'
import type { Surroundings } from './surroundings.ts'
import { upVariables } from './up.ts'

export function doctorCommand(surroundings: Surroundings): Command {
  return new Command('doctor')
    .description('check Postgres, Redis and the services, and say what an accepted event survives')
    .action(async () => {
      const checks = await examine(surroundings)
      for (const check of checks) for (const line of checkLines(check)) surroundings.out(line)
      const count = (outcome: Check['outcome']) => checks.filter((check) => check.outcome === outcome).length
      surroundings.out(`${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} wrong`)
      if (count('fail') > 0) surroundings.exitWith(1)
    })
}

/** The running copy of the home, or what DATABASE_URL and REDIS_URL lead to. */
async function examine(surroundings: Surroundings): Promise<Check[]> {
  const { env, home } = surroundings
  const state = await readState(home)
  const given = readVariable({ DATABASE_URL: databaseUrl.optional(), REDIS_URL: redisUrl.optional() }, env)
  const postgres = given.DATABASE_URL ?? state?.databaseUrl
  const redis = given.REDIS_URL ?? state?.redisUrl
  return [
    ...(postgres === undefined ? [] : await checkPostgres(postgres, surroundings)),
    ...(redis === undefined ? [] : await checkRedisAt(redis)),
    ...(state ? await checkServices(state, surroundings) : await checkNotRunning(surroundings, postgres !== undefined)),
    ...(await checkDisk(home)),
  ]
}

/** BullMQ takes longer to load than all the rest, and no other command needs it. */
async function checkRedisAt(url: string): Promise<Check[]> {
  const { checkRedis } = await import('./doctor-redis.ts')
  return checkRedis(url)
}

async function checkNotRunning({ env, home, program }: Surroundings, hasDatabase: boolean): Promise<Check[]> {
  const says = `nothing runs in ${home}`
  if (hasDatabase)
    return [
      warn('services', `${says}, so the services were not looked at`, "ask each service's /readyz on its ops port"),
    ]
  const wished = readVariable(upVariables, env)
  return [
    fail('services', says, `start it with \`${program} up\`, or set DATABASE_URL and REDIS_URL`),
    ...(await checkPorts({
      ingest: wished.TENTERHOOK_INGEST_PORT,
      console: wished.TENTERHOOK_CONSOLE_PORT,
      demo: wished.TENTERHOOK_DEMO_PORT,
    })),
  ]
}

const mebibyte = 1_048_576
const freeBytesWarn = 1_024 * mebibyte
const freeBytesFail = 100 * mebibyte

/** A full disk is refused to senders with 503, and everything waits. */
async function checkDisk(home: string): Promise<Check[]> {
  try {
    const { bavail, bsize } = await statfs(home)
    const freeBytes = bavail * bsize
    const says = `${Math.floor(freeBytes / mebibyte)} MiB are free where ${home} is`
    if (freeBytes < freeBytesFail) return [fail('disk', says, 'make room: with a full disk no event can be accepted')]
    return [freeBytes < freeBytesWarn ? warn('disk', says, 'make room before it is full') : ok('disk', says)]
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}
