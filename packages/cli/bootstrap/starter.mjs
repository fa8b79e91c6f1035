import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { passOn } from './child.mjs'
import { ifThere } from './files.mjs'

const lookMs = 500
const shells = new Set(['sh', 'dash', 'ash', 'bash', 'zsh', 'busybox'])

/**
 * npm runs us in a shell, and neither passes SIGTERM on, nor can they a SIGKILL: when one of the two is gone we have
 * been told to stop. Started without npm we stay, as `nohup` and service managers expect.
 */
export function watchStarter() {
  if (process.env.npm_lifecycle_event === undefined) return
  const parent = process.ppid
  const grandparent = parentOf(parent)
  const timer = setInterval(() => {
    if (process.ppid === parent && parentOf(parent) === grandparent) return
    clearInterval(timer)
    passOn('SIGTERM')
  }, lookMs)
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
