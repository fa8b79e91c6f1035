import { open } from 'node:fs/promises'

import { systemCode } from './setup-error.ts'

const tailBytesMax = 16 * 1024

/** The last lines of a log behind its first `fromByte` bytes, oldest first; none when there is no log. */
export async function tailLog(path: string, lines: number, fromByte = 0): Promise<string[]> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    // A log that is shorter than it was has been emptied since.
    const length = Math.min(fromByte <= size ? size - fromByte : size, tailBytesMax)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length)
    return buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n').slice(-lines)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}
