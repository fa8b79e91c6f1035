import { createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'

import { chooseLastingPort, probePort } from './ports.ts'

test('a lasting port is free, stays the same while it is, and lies below those of outgoing connections', async () => {
  const port = await chooseLastingPort(undefined)
  expect(port).toBeLessThan(32_768)
  expect(await probePort(port)).toBe('free')
  expect(await chooseLastingPort(port)).toBe(port)
})

test('a lasting port that somebody has taken is replaced', async () => {
  await using squatter = createServer()
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve))
  const { port } = squatter.address() as AddressInfo
  const chosen = await chooseLastingPort(port)
  expect(chosen).not.toBe(port)
  expect(chosen).toBeLessThan(32_768)
})
