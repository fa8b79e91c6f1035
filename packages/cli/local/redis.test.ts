import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { until } from '../../../test/support/poll.ts'
import { pingRedis } from './redis-ping.ts'
import { startRedis } from './redis.ts'
import { processesOf } from './stand-ins/alive.ts'

let home: string
const started = () => startRedis({ home, env: process.env, say: () => {} })

beforeEach(async () => {
  home = join(await mkdtemp(join(tmpdir(), 'tenterhook redis-')), '.tenterhook')
  await mkdir(home)
})

afterEach(async () => {
  await until(() => processesOf(home).length === 0, { what: 'every Redis process to be gone', timeoutMs: 20_000 })
  await rm(join(home, '..'), { recursive: true })
})

async function ask<Answer>(url: string, question: (redis: Redis) => Promise<Answer>): Promise<Answer> {
  const redis = new Redis(url)
  try {
    return await question(redis)
  } finally {
    redis.disconnect()
  }
}

describe('the local Redis', () => {
  it('keeps its data and its URL over a restart, and a kill', async () => {
    const first = await started()
    await ask(first.url, (redis) => redis.set('kept', 'yes'))
    await first.stop()
    const second = await started()
    expect(second.url).toBe(first.url)
    await ask(second.url, (redis) => redis.set('also', 'yes'))
    process.kill(second.server.pid, 'SIGKILL')
    await second.server.exited
    const third = await started()
    expect(await ask(third.url, (redis) => redis.mget('kept', 'also'))).toEqual(['yes', 'yes'])
    await third.stop()
  })

  it('evicts nothing and appends to a file', async () => {
    const { url, stop } = await started()
    const settings = await ask(url, (redis) => redis.config('GET', 'maxmemory-policy', 'appendonly', 'appendfsync'))
    expect(Object.fromEntries(chunk(settings))).toEqual({
      'maxmemory-policy': 'noeviction',
      appendonly: 'yes',
      appendfsync: 'everysec',
    })
    await stop()
  })

  it('lets nobody in without the password', async () => {
    const { url, stop } = await started()
    const outcome = await pingRedis({ port: Number(new URL(url).port), password: 'wrong' })
    expect(outcome).toEqual({ kind: 'refused', answer: expect.stringContaining('WRONGPASS') })
    await stop()
  })
})

function chunk(list: readonly string[]): [string, string][] {
  return list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] ?? '']] : []))
}
