import { statSync } from 'node:fs'
import { copyFile, open, truncate } from 'node:fs/promises'

import { printable } from '../commands/printable.ts'
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

/** What services say of a server that is away: whoever supervises that server has said it already. */
const outageEvents = /^(postgres\.|redis\.|queue\.|(loop\.failed|results\.not_recorded|accept\.commit_failed)$)/

type Log = {
  name: string
  path: string
  say: (line: string) => void
  /** While it returns true, lines about servers that are away are left to the file. */
  inOutage?: () => boolean
}

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
export function followLog({ name, path, say, inOutage }: Log): () => Promise<void> {
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
    const heldBack = inOutage?.() === true ? outageEvents : undefined
    const said = text.split('\n').flatMap((line) => shorten(line, heldBack) ?? [])
    // Three connections to one Redis say the same; an outage of an hour later is said again.
    const lines = said.filter((line, index) => line !== (said[index - 1] ?? lastOfLook))
    lastOfLook = said.at(-1)
    for (const line of lines.slice(0, linesPerLookMax)) say(`${name}: ${line}`)
    if (lines.length > linesPerLookMax) say(`${name}: ${lines.length - linesPerLookMax} more like these in ${path}`)
  }
}

/**
 * Why a program ended, from what it wrote behind the first `fromByte` bytes of its log: plain lines that came last
 * (each wrong variable, else the head of a stack, else the last), else the last warning or error in short form, else
 * the last line; undefined when it wrote nothing.
 */
export async function lastWordsOfLog(path: string, fromByte = 0): Promise<string | undefined> {
  const lines = (await tailLog(path, lastWordsLines, fromByte)).filter((line) => line.trim() !== '')
  const lastShort = lines.findLastIndex((line) => shorten(line) !== undefined)
  const plain = lines.slice(lastShort + 1).filter((line) => !line.startsWith('{'))
  const wrongVariables = plain.filter((line) => /^[A-Z][A-Z\d_]*: expected /.test(line))
  if (wrongVariables.length > 0) return wrongVariables.join('; ')
  const stackHead = plain.findLast((line) => /^\w*Error\b/.test(line))
  return stackHead ?? plain.at(-1) ?? shorten(lines[lastShort] ?? '') ?? lines.at(-1)
}

/**
 * A JSON line of level warn or above as a short sentence, with what it is about; undefined for every other line, and
 * for events that `heldBack` matches.
 */
export function shorten(line: string, heldBack?: RegExp): string | undefined {
  const level = /"level":"(warn|error|fatal)"/.exec(line)?.[1]
  if (level === undefined) return undefined
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined // not one of ours
  }
  const { msg, event, source, destination, status, code, id, detail, reason, error } = fields
  if (typeof event === 'string' && heldBack?.test(event)) return undefined
  const cause = typeof error === 'object' && error !== null && 'message' in error ? error.message : error
  const about = [source, destination, status, code, id]
    .filter((word) => typeof word === 'string' || typeof word === 'number')
    .filter((word) => typeof msg !== 'string' || !msg.includes(String(word)))
  const told = about.length === 0 ? '' : msg === undefined ? ` ${about.join(' ')}` : ` (${about.join(', ')})`
  const words = [msg ?? event, detail, reason, cause].filter((word) => typeof word === 'string')
  // Strangers write some of these words: none may steer the terminal.
  const text = printable(`${level}: ${[`${words[0] ?? ''}${told}`, ...words.slice(1)].join(': ')}`)
  return text.length > lineCharsMax ? `${text.slice(0, lineCharsMax)}…` : text
}

/** Of a log, in bytes; 0 when there is none yet. */
export function sizeOf(path: string): number {
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
