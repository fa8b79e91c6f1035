import { spawn } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { until } from '../support/poll.ts'
import { machineCpuSeconds, parseProc, parsePs, usageByName, usageOf } from './usage.ts'

const megabyte = 1024 ** 2

describe('usageByName', () => {
  const row = (pid: number, parent: number, cpuSeconds: number, rssMb: number, sharedMb: number) => ({
    pid,
    parent,
    cpuSeconds,
    rssBytes: rssMb * megabyte,
    sharedBytes: sharedMb * megabyte,
  })

  it('adds up a tree, wherever its rows stand, and counts its shared pages once', () => {
    const rows = [row(12, 11, 1, 40, 30), row(11, 10, 2, 35, 30), row(10, 1, 4, 33, 30), row(20, 1, 100, 500, 30)]
    expect(usageByName(rows, { postgres: 10, other: 20 })).toEqual({
      postgres: { cpuSeconds: 7, rssBytes: (10 + 5 + 3 + 30) * megabyte },
      other: { cpuSeconds: 100, rssBytes: 500 * megabyte },
    })
  })

  it('gives zero for a process that is gone', () => {
    expect(usageByName([], { gone: 99 })).toEqual({ gone: { cpuSeconds: 0, rssBytes: 0 } })
  })
})

it('reads /proc, with a command that holds spaces and brackets', () => {
  const stat = '77 (a) R (b) S 5 77 77 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 11 0 12345 1 2'
  const status = 'Name:\ta) R (b\nRssAnon:\t   1000 kB\nRssFile:\t    200 kB\nRssShmem:\t     30 kB\n'
  expect(parseProc(77, stat, status)).toEqual({
    pid: 77,
    parent: 5,
    cpuSeconds: 2.5,
    rssBytes: 1_230 * 1_024,
    sharedBytes: 230 * 1_024,
  })
})

it('reads ps, in each of its forms of time', () => {
  const output = '    1     0   9284   0:31.54\n   42     1    512 01:02:03\n   43     1    512 2-01:00:00\n\n'
  expect(parsePs(output).map((row) => [row.pid, row.parent, row.rssBytes, row.cpuSeconds])).toEqual([
    [1, 0, 9_284 * 1_024, 31.54],
    [42, 1, 512 * 1_024, 3_723],
    [43, 1, 512 * 1_024, 176_400],
  ])
})

it('sees a living process and its child use the processor', async () => {
  const busy = spawn('/bin/sh', ['-c', '(while :; do :; done) & wait'], { detached: true })
  const pid = busy.pid ?? 0
  const from = machineCpuSeconds()
  try {
    const usage = await until(
      async () => {
        const { busy: one } = await usageOf({ busy: pid })
        return one !== undefined && one.cpuSeconds >= 0.1 ? one : undefined
      },
      { what: '0.1 s of processor time in the child', everyMs: 50 },
    )
    expect(usage.rssBytes).toBeGreaterThan(100_000)
    expect(machineCpuSeconds() - from).toBeGreaterThanOrEqual(0.05)
  } finally {
    process.kill(-pid, 'SIGKILL')
  }
})
