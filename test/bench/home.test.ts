import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { makeHome } from './home.ts'

it('makes a directory, removes those of runs that are gone, and touches nothing else', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'bench-home-'))
  try {
    const { pid: gone } = spawnSync('true')
    const living = process.ppid
    for (const name of [`bench-${gone}`, `bench-${living}`, 'postgres', 'bench-notes']) await mkdir(join(parent, name))
    const home = await makeHome(parent, process.pid)
    expect(home).toBe(join(parent, `bench-${process.pid}`))
    expect((await readdir(parent)).sort()).toEqual(
      [`bench-${living}`, `bench-${process.pid}`, 'bench-notes', 'postgres'].sort(),
    )
    await expect(readdir(home)).resolves.toEqual([])
  } finally {
    await rm(parent, { recursive: true })
  }
})
