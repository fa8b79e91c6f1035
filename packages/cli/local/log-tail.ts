import { open } from 'node:fs/promises'

import { systemCode } from './setup-error.ts'

const tailBytesMax = 16 * 1024

/** The last lines of a log, oldest first; none when there is no log. */
export async function tailLog(path: string, lines: number): Promise<string[]> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    const length = Math.min(size, tailBytesMax)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length)
    return buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n').slice(-lines)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}
