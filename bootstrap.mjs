#!/usr/bin/env node
// The way in: `node bootstrap.mjs up | test | test:e2e | typecheck | verify | bench | prove | <tenterhook command>`.
//
// Plain JavaScript that any Node >= 20 runs with nothing installed. It installs what the lock file says when that is
// missing or has changed, then runs the real program under the pinned Node 24. It stays in the middle of the process
// tree, so it passes on signals and exit codes, and a guardian ends its child if it is itself killed.

import { delimiter, join } from 'node:path'

import { exitCodeOf, passOn, signalled, spawnGuarded } from './packages/cli/bootstrap/child.mjs'
import { ensureInstalled } from './packages/cli/bootstrap/install.mjs'
import { bin, compileCache, root } from './packages/cli/bootstrap/places.mjs'
import { Refusal } from './packages/cli/bootstrap/refusal.mjs'
import { watchStarter } from './packages/cli/bootstrap/starter.mjs'

const typecheck = ['tsc', '--noEmit', '-p', 'tsconfig.json']

/** @type {Record<string, (args: string[]) => string[][]>} What each command runs, one after the other. */
const commands = {
  typecheck: () => [typecheck],
  test: (args) => [typecheck, ['oxlint'], ['vitest', 'run', ...args]],
  'test:e2e': (args) => [['vitest', 'run', 'test/', ...args]],
  verify: (args) => [typecheck, ['oxlint'], ['knip'], ['vitest', 'run', ...args]],
  bench: (args) => [['node', join(root, 'test/bench/main.ts'), ...args]],
  prove: (args) => [['node', join(root, 'test/chaos/prove/main.ts'), ...args]],
}

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
    const signal = signalled()
    if (signal) process.exitCode = exitCodeOf(signal)
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
  let code = 0
  for (const [program, ...programArgs] of steps) {
    const signal = signalled()
    if (signal) return exitCodeOf(signal)
    code = await runProgram(join(bin, program), programArgs, env)
    if (code !== 0) break
  }
  return code
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

await main()
