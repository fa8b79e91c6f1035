import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { findRedis, provideRedis, redisVersion } from './redis-binary.ts'
import { startRedis } from './redis.ts'

/** A PATH of our own: the machine's tools that scripts need, and what the test puts there. */
let path: string
const lines: string[] = []
const say = (line: string) => void lines.push(line)

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'tenterhook-path-'))
  lines.length = 0
  for (const tool of ['sh', 'ln', 'cat', 'env', 'echo', 'id']) await symlink(locate(tool), join(path, tool))
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rm(path, { recursive: true })
})

const weAre = (uid: number) => vi.spyOn(process, 'getuid').mockReturnValue(uid)

const locate = (tool: string) => execFileSync('/bin/sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim()
const env = () => ({ PATH: path })

async function script(name: string, body: string): Promise<void> {
  await writeFile(join(path, name), `#!/bin/sh\n${body}\n`)
  await chmod(join(path, name), 0o755)
}

/** A package manager that notes what it was asked, and installs on `install` what the test says. */
const manager = (name: string, installs: string) =>
  script(name, `echo "$0 $*" >> ${path}/asked\ncase "$*" in *install*) ${installs};; esac`)

async function asked(): Promise<string[]> {
  const text = await readFile(join(path, 'asked'), 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => line.replaceAll(`${path}/`, ''))
}

describe('finding Redis', () => {
  it('takes redis-server before valkey-server', async () => {
    await script('valkey-server', '')
    expect(await findRedis(env())).toEqual({ path: join(path, 'valkey-server'), callAs: 'valkey-server' })
    await script('redis-server', '')
    expect(await findRedis(env())).toEqual({ path: join(path, 'redis-server'), callAs: 'redis-server' })
  })

  it('finds the server that Debian ships as redis-check-rdb, and it runs', async () => {
    await symlink(locate('redis-server'), join(path, 'redis-check-rdb'))
    expect(await findRedis(env())).toEqual({ path: join(path, 'redis-check-rdb'), callAs: 'redis-server' })
    const home = await mkdtemp(join(tmpdir(), 'tenterhook-redis-'))
    const { stop, version } = await startRedis({ home, env: env(), say })
    expect(version).toMatch(/^(Redis|Valkey) \d+\.\d+/)
    await stop()
    await rm(home, { recursive: true })
  })

  it('says what the machine has none of', async () => {
    expect(await findRedis(env())).toBeUndefined()
    expect(await redisVersion(join(path, 'redis-server'))).toBeUndefined()
  })
})

describe('providing Redis', () => {
  it('asks nobody when it is there', async () => {
    await script('redis-server', '')
    await manager('apt-get', 'exit 1')
    expect((await provideRedis({ env: env(), say })).path).toBe(join(path, 'redis-server'))
    expect(lines).toEqual([])
  })

  it('says what to do when there is no package manager it knows', async () => {
    await expect(provideRedis({ env: env(), say })).rejects.toThrow(
      /^there is no redis-server on this machine: install Redis.*REDIS_URL$/,
    )
  })

  it('installs the package that holds no service with apt-get, asking nothing, and says so', async () => {
    weAre(0)
    await manager(
      'apt-get',
      `echo $DEBIAN_FRONTEND >> ${path}/asked; ln -s ${locate('redis-server')} ${path}/redis-check-rdb`,
    )
    expect((await provideRedis({ env: env(), say })).callAs).toBe('redis-server')
    expect(await asked()).toEqual([
      'apt-get -q -o DPkg::Lock::Timeout=120 update',
      'apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends redis-tools',
      'noninteractive',
    ])
    expect(lines).toEqual(['there is no redis-server on this machine: installing redis-tools with apt-get'])
  })

  it('installs redis with dnf where there is no valkey', async () => {
    weAre(0)
    await manager('dnf', `[ "$*" = "-q -y install redis" ] && ln -s ${locate('redis-server')} ${path}/redis-server`)
    expect((await provideRedis({ env: env(), say })).callAs).toBe('redis-server')
    expect(await asked()).toEqual(['dnf -q -y install valkey', 'dnf -q -y install redis'])
  })

  it('says what to type, and what the package manager said, when that fails', async () => {
    weAre(0)
    await manager('apt-get', 'echo "E: Unable to locate package" >&2; exit 100')
    await expect(provideRedis({ env: env(), say })).rejects.toThrow(
      'apt-get could not install redis-tools (E: Unable to locate package): type `sudo apt-get install redis-tools` to see why, or set REDIS_URL',
    )
  })

  it('says what to type when sudo wants a password', async () => {
    weAre(1000)
    await manager('apt-get', 'exit 1')
    await script('sudo', 'exit 1')
    await expect(provideRedis({ env: env(), say })).rejects.toThrow(
      'type `sudo apt-get install redis-tools` and start again',
    )
  })

  it('installs through a sudo that asks for no password', async () => {
    weAre(1000)
    await script('sudo', `[ "$1" = -n ] && shift && exec "$@"`)
    await script('true', '')
    await manager(
      'apt-get',
      `echo $DEBIAN_FRONTEND >> ${path}/asked; ln -s ${locate('redis-server')} ${path}/redis-check-rdb`,
    )
    expect((await provideRedis({ env: env(), say })).callAs).toBe('redis-server')
    expect((await asked()).at(-1)).toBe('noninteractive')
  })
})
