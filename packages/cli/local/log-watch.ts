import { statSync } from 'node:fs'
import { copyFile, open, truncate } from 'node:fs/promises'

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

type Log = { name: string; path: string; say: (line: string) => void }

/** Watches from now on: what stands in the file already is another run's. */
export function watchLog(log: Log): LogWatch {
  const look = followLog(log)
  let looking = false
  const timer = setInterval(() => {
    if (looking) return
    looking = true
    look()
      .catch((error: unknown) => log.say(`${log.name}: its log can't be read: ${String(error)}`))
      .finally(() => {
        looking = false
      })
  }, everyMs)
  return { stop: () => clearInterval(timer) }
}

/** Gives the function that takes one look at what was appended since the last. */
export function followLog({ name, path, say }: Log): () => Promise<void> {
  let offset = sizeOf(path)
  let lastOfLook: string | undefined

  return async function look() {
    const size = sizeOf(path)
    if (size < offset) offset = 0 // it was emptied
    if (size === offset) lastOfLook = undefined
    if (size > offset) {
      const from = Math.max(offset, size - lookBytesMax)
      const appended = await read(path, from, size - from)
      const wholeLines = appended.subarray(0, appended.lastIndexOf('\n') + 1)
      offset = from + wholeLines.length
      tell(wholeLines.toString('utf8'))
    }
    if (size > logBytesMax) {
      await copyFile(path, `${path}.1`)
      await truncate(path)
      offset = 0
    }
  }

  function tell(text: string): void {
    const said = text.split('\n').flatMap((line) => shorten(line) ?? [])
    // Three connections to one Redis say the same; an outage of an hour later is said again.
    const lines = said.filter((line, index) => line !== (said[index - 1] ?? lastOfLook))
    lastOfLook = said.at(-1)
    for (const line of lines.slice(0, linesPerLookMax)) say(`${name}: ${line}`)
    if (lines.length > linesPerLookMax) say(`${name}: ${lines.length - linesPerLookMax} more like these in ${path}`)
  }
}

/** The last error of a log in short form, else the head of a stack, else its last line; undefined when it is empty. */
export async function lastWordsOfLog(path: string): Promise<string | undefined> {
  const lines = (await tailLog(path, lastWordsLines)).filter((line) => line.trim() !== '')
  const words = lines.map(shorten).findLast((line) => line !== undefined)
  return words ?? lines.findLast((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1)
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
  const { msg, event, reason, error } = fields
  const cause = typeof error === 'object' && error !== null && 'message' in error ? error.message : error
  const words = [msg ?? event, reason, cause].filter((word) => typeof word === 'string')
  const text = `${level}: ${words.join(': ')}`
  return text.length > lineCharsMax ? `${text.slice(0, lineCharsMax)}…` : text
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0
    throw error
  }
}

async function read(path: string, from: number, length: number): Promise<Buffer> {
  await using file = await open(path, 'r')
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, from)
  return buffer.subarray(0, bytesRead)
}
