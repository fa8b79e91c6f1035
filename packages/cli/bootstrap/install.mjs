import { createHash } from 'node:crypto'
import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { killGroup, signalled, spawnGuarded } from './child.mjs'
import { whileLocked } from './install-lock.mjs'
import { bin, compileCache, root } from './places.mjs'
import { Refusal } from './refusal.mjs'

const node = join(bin, 'node')
const stamp = join(root, 'node_modules/.tenterhook-installed')
const ownDirectory = join(root, '.tenterhook')
const installLog = join(ownDirectory, 'install.log')
const programs = [
  'services/ingest/main.ts',
  'services/router/main.ts',
  'services/dispatcher/main.ts',
  'services/console/main.ts',
  'packages/cli/main.ts',
]

const outputCharsMax = 1_000_000
/** Slow networks are slow; what takes longer hangs. */
const installTimeoutMs = 30 * 60_000
/** For a program that is begun only to end. */
const beginTimeoutMs = 20_000

/** Installs what the lock file says, when that is missing or has changed since the last time. */
export async function ensureInstalled() {
  if (isInstalled()) return
  try {
    mkdirSync(ownDirectory, { recursive: true, mode: 0o700 })
    accessSync(root, constants.W_OK)
    await whileLocked(join(ownDirectory, 'install.lock'), async () => {
      if (isInstalled()) return // by whoever had the lock before us
      const started = performance.now()
      process.stdout.write('installing dependencies (needed once, about a minute) ...\n')
      await install()
      process.stdout.write(`installed in ${Math.round((performance.now() - started) / 1_000)} s\n`)
    })
  } catch (error) {
    throw explain(error.code ?? '', error.path ?? root) ?? error
  }
}

function isInstalled() {
  try {
    accessSync(node, constants.X_OK)
    return readFileSync(stamp, 'utf8') === wantedStamp()
  } catch {
    return false
  }
}

function wantedStamp() {
  const lock = readFileSync(join(root, 'pnpm-lock.yaml'))
  return createHash('sha256')
    .update(lock)
    .update(`${packageManager()} ${process.platform} ${process.arch}`)
    .digest('hex')
}

function packageManager() {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).packageManager
}

async function install() {
  const wanted = wantedStamp()
  const pnpm = ['exec', '--yes', `--package=${packageManager()}`, '--', 'pnpm', 'install', '--frozen-lockfile']
  const { code, output } = await runQuietly('npm', [...pnpm, '--config.confirmModulesPurge=false'], {
    env: installEnvironment(),
    timeoutMs: installTimeoutMs,
  })
  if (signalled()) throw new Refusal('stopped')
  if (code !== 0) {
    writeFileSync(installLog, output, { mode: 0o600 })
    if (code === 127) throw new Refusal('npm was not found: install it beside Node')
    throw (
      explain(output, root) ??
      new Refusal(`the dependencies can't be installed (all that was said: ${installLog}): ${lastErrorLine(output)}`)
    )
  }
  await fillCompileCache()
  writeFileSync(stamp, wanted)
}

/**
 * Begins each program once, without the environment it needs: it loads all of its code, misses its variables and ends.
 * Their first real start is then as fast and small as the next; should this fail, they start all the same.
 */
async function fillCompileCache() {
  for (const program of programs) {
    const env = { PATH: process.env.PATH, ...compileCache }
    await runQuietly(node, [join(root, program)], { env, timeoutMs: beginTimeoutMs })
    if (signalled()) throw new Refusal('stopped')
  }
}

function runQuietly(program, args, { env, timeoutMs }) {
  return new Promise((resolve, reject) => {
    const child = spawnGuarded({ scope: 'group', program, args, env, cwd: root, stdio: 'pipe' })
    const timer = setTimeout(() => killGroup(child.pid, 'SIGKILL'), timeoutMs)
    let output = ''
    const collect = (chunk) => {
      output = (output + chunk).slice(-outputCharsMax)
    }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, output })
    })
  })
}

/**
 * npm hands its settings and flags to what it runs: `npm test --omit=dev` or NODE_ENV=production would leave out the
 * pinned Node. Only where and how to reach the registry is kept.
 */
function installEnvironment() {
  const kept =
    /^npm_config_(registry|.*:registry|\/\/.*|userconfig|globalconfig|cache|cafile|ca|cert|key|strict_ssl|https?_proxy|proxy|noproxy)$/i
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(npm_|NODE_ENV$|NODE_OPTIONS$|INIT_CWD$)/i.test(name) || kept.test(name),
    ),
  )
  return {
    ...env,
    CI: 'true',
    // A laptop without a network should hear that in seconds, not after npm's minutes of retries.
    npm_config_fetch_retries: '2',
    npm_config_fetch_retry_mintimeout: '1000',
    npm_config_fetch_retry_maxtimeout: '4000',
    // We run the pnpm that package.json names; pnpm 12 would refuse a frozen lock file that doesn't name it too (pnpm#14124).
    pnpm_config_pm_on_fail: 'ignore',
  }
}

/** The usual reasons in one line; undefined for an unusual one. */
function explain(text, path) {
  if (/ENOSPC|EDQUOT|no space left/i.test(text)) return new Refusal(`no space left on the disk of ${root}`)
  if (/ERR_PNPM_\w*OUTDATED_LOCKFILE/.test(text))
    return new Refusal(
      'pnpm-lock.yaml does not fit the package.json files: run `pnpm install` and commit the lock file',
    )
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|META_FETCH_FAIL|CERT_|SELF_SIGNED/i.test(
      text,
    )
  ) {
    return new Refusal(
      'the npm registry can not be reached: check the network, the proxy and `npm config get registry`, then start again',
    )
  }
  if (/EACCES|EPERM|EROFS|permission denied/i.test(text)) {
    const named = /(?:EACCES|EPERM|EROFS)[^'\n]*'([^'\n]+)'/.exec(text)?.[1] ?? path
    return new Refusal(`no permission to write ${named}: run as the owner of ${root}`)
  }
  return undefined
}

function lastErrorLine(output) {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
  return lines.findLast((line) => /err/i.test(line)) ?? lines.at(-1) ?? 'npm said nothing'
}
