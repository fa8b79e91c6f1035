import { execFileSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { findPostgresBinaries, reachableFor } from './postgres-binaries.ts'

const nobody = { uid: 65_534, gid: 65_534 }

describe('the Postgres binaries', () => {
  it('are those of the npm package', async () => {
    const { postgres, version } = await findPostgresBinaries(undefined)
    expect(execFileSync(postgres, ['--version'], { encoding: 'utf8' })).toContain(
      version.split('.').slice(0, 2).join('.'),
    )
  })
})

describe.runIf(process.getuid?.() === 0)("the Postgres binaries in root's closed home", () => {
  let closed: string
  let binaries: string
  let open: string
  let copy: string

  beforeEach(async () => {
    closed = await mkdtemp(join(tmpdir(), 'tenterhook closed-'))
    // A link to the real ones: whoever can't enter `closed` can't follow it.
    binaries = join(closed, 'native')
    const { postgres } = await findPostgresBinaries(undefined)
    await mkdir(binaries)
    for (const name of ['lib', 'share']) await symlink(join(dirname(postgres), '..', name), join(binaries, name))
    await mkdir(join(binaries, 'bin'))
    await writeFile(join(binaries, 'bin/postgres'), '#!/bin/sh\necho postgres\n', { mode: 0o700 })
    open = await mkdtemp(join(tmpdir(), 'tenterhook-open-'))
    await chmod(open, 0o755)
    copy = join(open, 'cache/postgres-18')
  })

  afterEach(async () => {
    for (const directory of [closed, open]) await rm(directory, { recursive: true })
  })

  it('are copied to where another user can run them, and copied once', async () => {
    expect(await reachableFor(nobody, binaries, copy)).toBe(copy)
    const made = await stat(copy)
    expect(await reachableFor(nobody, binaries, copy)).toBe(copy)
    expect((await stat(copy)).ctimeMs).toBe(made.ctimeMs)
    expect(execFileSync(join(copy, 'bin/postgres'), { ...nobody, cwd: '/', encoding: 'utf8' })).toBe('postgres\n')
  })

  it('are whole in their copy when two first starts make it at once', async () => {
    const both = [reachableFor(nobody, binaries, copy), reachableFor(nobody, binaries, copy)]
    expect(await Promise.all(both)).toEqual([copy, copy])
    expect(await readdir(dirname(copy))).toEqual(['postgres-18'])
  })

  it('are not copied when they can be reached', async () => {
    await chmod(closed, 0o755)
    await chmod(join(binaries, 'bin/postgres'), 0o755)
    expect(await reachableFor(nobody, binaries, copy)).toBe(binaries)
    expect(await readdir(open)).toEqual([])
  })

  it('are not run from a place where others than root could have planted them', async () => {
    await mkdir(dirname(copy))
    await chmod(dirname(copy), 0o777)
    await expect(reachableFor(nobody, binaries, copy)).rejects.toThrow('others than root can write')
  })
})
