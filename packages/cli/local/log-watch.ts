import { copyFile, open, stat, truncate } from 'node:fs/promises'

import { tailLog } from './log-tail.ts'
import { systemCode } from './setup-error.ts'

/**
 * Looks after one log file that a program appends to: keeps it under a size, and tells the terminal its warnings and
 * errors in short form, so that the terminal stays readable and nothing that matters is only in a file.
 */
export type LogWatch = { readonly stop: () => void }

const everyMs = 300
/** Above this the file becomes `<path>.1`, in place of the one before; lines written just then are lost. */
const logBytesMax = 20 * 1024 * 1024
/** What one look reads at most; a busier log is read from nearer its end. */
const lookBytesMax = 1024 * 1024
/** A burst is cut to its first lines and a count. */
const linesPerLookMax = 3
const lineCharsMax = 200
const lastWordsLines = 20

export function watchLog({ name, path, say }: { name: string; path: string; say: (line: string) => void }): LogWatch {
  let offset: number | undefined
  let looking: Promise<void> | undefined

  async function look(): Promise<void> {
    const size = await sizeOf(path)
    // What stood in the file before this run is not news; a shorter file was emptied.
    if (offset === undefined || size < offset) offset = offset === undefined ? size : 0
    const from = Math.max(offset, size - lookBytesMax)
    if (size > from) {
      const chunk = await read(path, from, size - from)
      const end = chunk.lastIndexOf('\n') + 1
      offset = from + Buffer.byteLength(chunk.slice(0, end))
      tell(chunk.slice(0, end))
    }
    if (size > logBytesMax) {
      await copyFile(path, `${path}.1`)
      await truncate(path)
      offset = 0
    }
  }

  function tell(chunk: string): void {
    const lines = chunk.split('\n').flatMap((line) => shorten(line) ?? [])
    for (const line of lines.slice(0, linesPerLookMax)) say(`${name}: ${line}`)
    if (lines.length > linesPerLookMax) say(`${name}: ${lines.length - linesPerLookMax} more like these in ${path}`)
  }

  const timer = setInterval(() => {
    looking ??= look()
      .catch((error: unknown) => say(`${name}: its log can't be read: ${String(error)}`))
      .finally(() => {
        looking = undefined
      })
  }, everyMs)
  return { stop: () => clearInterval(timer) }
}

/** The last error of a log in short form, else its last line; undefined when it is empty. */
export async function lastWordsOfLog(path: string): Promise<string | undefined> {
  const lines = (await tailLog(path, lastWordsLines)).filter((line) => line.trim() !== '')
  return lines.map(shorten).findLast((line) => line !== undefined) ?? lines.at(-1)
}

/** A JSON line of level warn or above as a short sentence; undefined for every other line. */
export function shorten(line: string): string | undefined {
  const level = /"level":"(warn|error|fatal)"/.exec(line)?.[1]
  if (level === undefined) return undefined
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined // not one of ours
  }
  const cause = fields['error']
  const said = typeof cause === 'object' && cause !== null && 'message' in cause ? cause.message : undefined
  const words = [fields['msg'] ?? fields['event'], said].filter((word) => typeof word === 'string')
  const text = `${level}: ${words.join(': ')}`
  return text.length > lineCharsMax ? `${text.slice(0, lineCharsMax)}…` : text
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0
    throw error
  }
}

async function read(path: string, from: number, length: number): Promise<string> {
  await using file = await open(path, 'r')
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, from)
  return buffer.toString('utf8', 0, bytesRead)
}
