import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encryptionKeys } from '@tenterhook/lifecycle/variables'

import {
  clearState,
  ensureAdminToken,
  ensureEncryptionKeys,
  homePath,
  openHome,
  readAdminToken,
  readEncryptionKeys,
  readState,
  resetAdminToken,
  rotateEncryptionKeys,
  writeState,
} from './home.ts'
import { lockHome } from './lock.ts'
import { explainFileError, SetupError } from './setup-error.ts'

let home: string

beforeEach(async () => {
  home = join(await mkdtemp(join(tmpdir(), 'tenterhook-home-')), '.tenterhook')
  await openHome(home)
})

afterEach(() => rm(join(home, '..'), { recursive: true }))

const modeOf = async (name: string) => (await stat(join(home, name))).mode & 0o777
const state = {
  pid: process.pid,
  databaseUrl: 'postgres://x',
  redisUrl: 'redis://x',
  ingestUrl: 'http://127.0.0.1:8080',
  consoleUrl: 'http://127.0.0.1:8081',
  opsUrls: { ingest: 'http://127.0.0.1:9101' },
}

describe('the home', () => {
  it('is .tenterhook in the repository, or where TENTERHOOK_HOME says', () => {
    expect(homePath({ env: {}, root: '/repository' })).toBe('/repository/.tenterhook')
    expect(homePath({ env: { TENTERHOOK_HOME: '/elsewhere' }, root: '/repository' })).toBe('/elsewhere')
  })

  it('is closed to others', async () => {
    expect(await modeOf('.')).toBe(0o700)
  })

  it('that can not be made is told in one line that names it', async () => {
    await writeFile(join(home, 'file'), '')
    await expect(openHome(join(home, 'file'))).rejects.toThrow(
      `${join(home, 'file')} is not a directory: run as its owner`,
    )
    await expect(openHome(join(home, 'file/below'))).rejects.toThrow('file/below is not a directory')
  })
})

describe('an error of the file system', () => {
  const explain = (code: string) => explainFileError(Object.assign(new Error('x'), { code }), '/path', 'do this')

  it('becomes one line that says what to do', () => {
    expect(explain('EACCES')).toMatchObject({
      code: 'permission_denied',
      message: 'no permission to write /path: do this',
    })
    expect(explain('EROFS')).toMatchObject({ code: 'permission_denied' })
    expect(explain('ENOSPC')).toMatchObject({ code: 'disk_full', message: 'no space left on the disk of /path' })
  })

  it('that nobody foresaw stays as it is', () => {
    expect(explain('EIO')).not.toBeInstanceOf(SetupError)
  })
})

describe('the admin token', () => {
  it('is made once, kept for its owner alone, and stays', async () => {
    const first = await ensureAdminToken(home, undefined)
    expect(first).toEqual({ token: expect.stringMatching(/^tha_[\w-]{43}$/), made: true })
    expect(await ensureAdminToken(home, undefined)).toEqual({ token: first.token, made: false })
    expect(await modeOf('admin-token')).toBe(0o600)
  })

  it('that is given takes the place of the kept one, and is kept for the CLI', async () => {
    await ensureAdminToken(home, undefined)
    expect(await ensureAdminToken(home, 'given')).toEqual({ token: 'given', made: false })
    expect(await readAdminToken(home)).toBe('given')
  })

  it('is another after a reset', async () => {
    const { token } = await ensureAdminToken(home, undefined)
    const reset = await resetAdminToken(home)
    expect(reset).not.toBe(token)
    expect(await readAdminToken(home)).toBe(reset)
  })
})

describe('the encryption keys', () => {
  it('are made once in the form services read, kept for their owner alone, and stay', async () => {
    const made = await ensureEncryptionKeys(home, undefined)
    expect(encryptionKeys.parse(made)).toEqual([{ id: 'k1', key: expect.any(Buffer) }])
    expect(await ensureEncryptionKeys(home, undefined)).toBe(made)
    expect(await modeOf('encryption-keys')).toBe(0o600)
  })

  it('that are given are used and leave the kept ones alone', async () => {
    const made = await ensureEncryptionKeys(home, undefined)
    expect(await ensureEncryptionKeys(home, 'k2:given')).toBe('k2:given')
    expect(await ensureEncryptionKeys(home, undefined)).toBe(made)
  })

  it('take a new one in front under the next id, and keep those before', async () => {
    const made = await ensureEncryptionKeys(home, undefined)
    expect(await rotateEncryptionKeys(home, made)).toBe('k2')
    expect(await rotateEncryptionKeys(home, String(await readEncryptionKeys(home)))).toBe('k3')
    const kept = await ensureEncryptionKeys(home, undefined)
    expect(encryptionKeys.parse(kept).map(({ id }) => id)).toEqual(['k3', 'k2', 'k1'])
    expect(kept.endsWith(`,${made}`)).toBe(true)
    expect(await modeOf('encryption-keys')).toBe(0o600)
  })
})

describe('the state', () => {
  it('is read back while its process lives, by its owner alone', async () => {
    await writeState(home, state)
    expect(await readState(home)).toEqual(state)
    expect(await modeOf('state.json')).toBe(0o600)
    await clearState(home)
    expect(await readState(home)).toBeUndefined()
  })

  it('of a process that is gone counts as none', async () => {
    await writeState(home, { ...state, pid: 2 ** 22 + 1 }) // above Linux's highest pid
    expect(await readState(home)).toBeUndefined()
  })
})

describe('the lock', () => {
  it('is refused to a second, who hears which process has it, and free again when released', async () => {
    const first = await lockHome(home)
    await expect(lockHome(home)).rejects.toThrow(`already running in ${home} (pid ${process.pid})`)
    first.release()
    ;(await lockHome(home)).release()
  })

  it('that a crash left on the disk holds nobody up', async () => {
    await writeFile(join(home, 'lock'), '')
    await writeFile(join(home, 'pid'), '1\n')
    ;(await lockHome(home)).release()
    expect(await readFile(join(home, 'pid'), 'utf8')).toBe(`${process.pid}\n`)
  })
})
