#!/usr/bin/env node
// The way in: `node bootstrap.mjs up | test | test:e2e | typecheck | verify | bench | <tenterhook command>`.
//
// Plain JavaScript that any Node >= 20 runs with nothing installed. It installs what the lock file says when that is
// missing or has changed, then runs the real program under the pinned Node 24. It stays in the middle of the process
// tree, so it passes on signals and exit codes, and a guardian ends its child if it is itself killed.

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  constants,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { constants as osConstants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = dirname(fileURLToPath(import.meta.url))
const bin = join(root, 'node_modules/.bin')
const node = join(bin, 'node')
const stamp = join(root, 'node_modules/.tenterhook-installed')
const ownDirectory = join(root, '.tenterhook')
const installLog = join(ownDirectory, 'install.log')

/** Node keeps what it made of our TypeScript here: services then start twice as fast and never load the compiler (30 MB each). */
const compileCache = {
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, 'node_modules/.cache/tenterhook'),
}
const programs = [
  'services/ingest/main.ts',
  'services/router/main.ts',
  'services/dispatcher/main.ts',
  'services/console/main.ts',
  'packages/cli/main.ts',
]

const typecheck = ['tsc', '--noEmit', '-p', 'tsconfig.json']

/** @type {Record<string, (args: string[]) => string[][]>} What each command runs, one after the other. */
const commands = {
  typecheck: () => [typecheck],
  test: (args) => [typecheck, ['oxlint'], ['vitest', 'run', ...args]],
  'test:e2e': (args) => [['vitest', 'run', 'test/', ...args]],
  verify: (args) => [typecheck, ['oxlint'], ['knip'], ['vitest', 'run', ...args]],
  bench: (args) => [['node', join(root, 'test/bench/main.ts'), ...args]],
}

/** A reason to stop that a person can act on, told in one line. */
class Refusal extends Error {}

const starterLookMs = 500
const shells = new Set(['sh', 'dash', 'ash', 'bash', 'zsh', 'busybox'])

const children = new Set()
let signalled

async function main() {
  // A terminal that is gone, or a reader that had enough (`| head`), must not end us before our child is stopped.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => passOn(signal))
  watchStarter()
  try {
    refuseOldPlatforms()
    await ensureInstalled()
    process.exitCode = await runAll(process.argv.slice(2))
  } catch (error) {
    if (signalled) process.exitCode = exitCodeOf(signalled)
    else if (error instanceof Refusal) {
      process.stderr.write(`tenterhook: ${error.message}\n`)
      process.exitCode = 1
    } else throw error
  }
}

function refuseOldPlatforms() {
  if (process.platform === 'win32') throw new Refusal('Tenterhook runs on Linux and macOS; on Windows, use WSL')
  const major = Number(process.versions.node.split('.')[0])
  if (major < 20) throw new Refusal(`Node ${process.versions.node} is too old: install Node 20 or newer`)
}

async function runAll([command = '--help', ...args]) {
  const steps = commands[command]?.(args) ?? [['node', join(root, 'packages/cli/main.ts'), command, ...args]]
  const env = { ...process.env, ...compileCache, PATH: [bin, process.env.PATH].filter(Boolean).join(delimiter) }
  for (const [program, ...programArgs] of steps) {
    const code = await runProgram(join(bin, program), programArgs, env)
    if (code !== 0 || signalled) return code
  }
  return 0
}

/** Runs in our process group, with our terminal. The caller's directory stays for CLI commands: paths they name are there. */
function runProgram(program, args, env) {
  const cwd = args[0] === join(root, 'packages/cli/main.ts') ? process.cwd() : root
  return new Promise((resolve, reject) => {
    const child = spawnGuarded({ scope: 'process', program, args, env, cwd, stdio: 'inherit' })
    child.on('error', (error) =>
      reject(new Refusal(`${program} can't be run (${error.code}): remove node_modules and start again`)),
    )
    child.on('exit', (code, signal) => resolve(code ?? exitCodeOf(signal)))
  })
}

/**
 * Spawns a program with a guardian: a forked shell that reads a pipe only we can write to. Told `done` it leaves; at
 * the pipe's end without a word, because we were killed, it stops the program, or with scope `group` the whole group.
 */
function spawnGuarded({ scope, program, args, env, cwd, stdio }) {
  const script = `
    scope=$1; shift
    target=$$; [ "$scope" = group ] && target=-$$
    (
      trap '' INT TERM HUP
      exec >/dev/null 2>&1
      read -r done <&3 && exit
      kill -s TERM -- "$target"
      tenths=400
      while [ "$tenths" -gt 0 ] && kill -0 $$; do
        if read -r stat </proc/$$/stat; then case $stat in *') Z '*) break ;; esac; fi
        sleep 0.1; tenths=$((tenths - 1))
      done
      kill -s KILL -- "$target"
    ) &
    exec 3<&-
    exec "$@"`
  const child = spawn('/bin/sh', ['-c', script, 'tenterhook-guardian', scope, program, ...args], {
    cwd,
    env,
    detached: scope === 'group',
    stdio: [stdio === 'inherit' ? 'inherit' : 'ignore', stdio, stdio, 'pipe'],
  })
  const leash = child.stdio[3]
  leash.on('error', () => {}) // the guardian was killed
  const entry = { child, scope }
  children.add(entry)
  child.on('exit', () => {
    children.delete(entry)
    leash.end('done\n')
  })
  return child
}

/** To a group of its own no terminal's Ctrl-C comes, so that it must be stopped whole; others get what we got. */
function passOn(signal) {
  for (const { child, scope } of children) {
    if (scope === 'process') child.kill(signal)
    else killGroup(child.pid, signalled ? 'SIGKILL' : 'SIGTERM')
  }
  signalled ??= signal
}

/**
 * npm runs us in a shell, and neither passes SIGTERM on, nor can they a SIGKILL: when one of the two is gone we have
 * been told to stop. Started without npm we stay, as `nohup` and service managers expect.
 */
function watchStarter() {
  if (process.env.npm_lifecycle_event === undefined) return
  const parent = process.ppid
  const grandparent = parentOf(parent)
  const timer = setInterval(() => {
    if (process.ppid === parent && parentOf(parent) === grandparent) return
    clearInterval(timer)
    passOn('SIGTERM')
  }, starterLookMs)
  timer.unref()
}

/** Of a shell; anything else (npm without a shell, a test) may well outlive its own parent. */
function parentOf(pid) {
  const [name, parent] = process.platform === 'linux' ? lookInProc(pid) : askPs(pid)
  return shells.has(name) ? parent : undefined
}

/** proc_pid_stat(5): pid (name) state parent … */
function lookInProc(pid) {
  const stat = ifThere(() => readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? ''
  return /\((.*)\) \w (\d+)/s.exec(stat)?.slice(1) ?? []
}

function askPs(pid) {
  const { stdout } = spawnSync('/bin/ps', ['-o', 'comm=,ppid=', '-p', String(pid)], { encoding: 'utf8' })
  const [, path = '', parent] = /^(.*?)\s+(\d+)\s*$/.exec(stdout) ?? []
  return [path.split('/').at(-1), parent]
}

function killGroup(pid, signal) {
  try {
    process.kill(-pid, signal)
  } catch {
    // it is gone
  }
}

function exitCodeOf(signal) {
  return 128 + (osConstants.signals[signal] ?? 0)
}

// Installing

const lockPath = join(ownDirectory, 'install.lock')
const heartbeatMs = 1_000
/** A lock whose heart has not beaten for this long belongs to nobody, whoever has its pid now. */
const heartbeatsMissedMax = 10
const outputCharsMax = 1_000_000
/** Slow networks are slow; what takes longer hangs. */
const installTimeoutMs = 30 * 60_000
/** For a program that is begun only to end. */
const beginTimeoutMs = 20_000

async function ensureInstalled() {
  if (isInstalled()) return
  try {
    mkdirSync(ownDirectory, { recursive: true, mode: 0o700 })
    accessSync(root, constants.W_OK)
    await whileLocked(async () => {
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
  if (signalled) throw new Refusal('stopped')
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
    if (signalled) throw new Refusal('stopped')
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

/** Two first starts at once must not write the same files. Killed holders are noticed by their pid or their heartbeat. */
async function whileLocked(work) {
  await takeLock()
  const heart = setInterval(() => {
    const now = new Date()
    ifThere(() => utimesSync(lockPath, now, now))
  }, heartbeatMs)
  try {
    await work()
  } finally {
    clearInterval(heart)
    rmSync(lockPath, { force: true })
  }
}

async function takeLock() {
  const mine = `${lockPath}.${process.pid}`
  writeFileSync(mine, String(process.pid))
  try {
    let lastBeat
    let missed = 0
    while (!signalled) {
      try {
        linkSync(mine, lockPath) // unlike a create, it appears with its content
        return
      } catch (error) {
        if (error.code !== 'EEXIST') throw error
      }
      const holder = look(lockPath)
      if (holder === undefined) continue
      missed = holder.beat === lastBeat ? missed + 1 : 0
      if (lastBeat === undefined && holder.alive)
        process.stdout.write(`waiting for another install (pid ${holder.pid}) ...\n`)
      lastBeat = holder.beat
      if (!holder.alive || missed > heartbeatsMissedMax) {
        removeLockOf(holder.pid, `${mine}.stale`)
        continue
      }
      await pause(heartbeatMs)
    }
    throw new Refusal('stopped')
  } finally {
    rmSync(mine, { force: true })
  }
}

function look(path) {
  return ifThere(() => {
    const pid = Number(readFileSync(path, 'utf8'))
    return { pid, beat: statSync(path).mtimeMs, alive: isAlive(pid) }
  })
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** Of several that see a dead holder at once one renames its lock; another that comes late puts back what it took. */
function removeLockOf(pid, aside) {
  ifThere(() => {
    renameSync(lockPath, aside)
    if (Number(readFileSync(aside, 'utf8')) !== pid) linkSync(aside, lockPath)
  })
  rmSync(aside, { force: true })
}

function ifThere(act) {
  try {
    return act()
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}

await main()
