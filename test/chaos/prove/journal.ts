import { open, readFile } from 'node:fs/promises'

/** What a side of the proof has seen, a JSON object a line, on disk before anybody acts on it. */
export type Journal = {
  /** Resolves when the line is on disk (fdatasync). Lines written together share one. */
  write(entry: object): Promise<void>
  /** Everything written is on disk; nothing may be written any more. */
  close(): Promise<void>
}

export async function openJournal(path: string): Promise<Journal> {
  const file = await open(path, 'a')
  let waiting: string[] = []
  let next = Promise.withResolvers<void>()
  let flushing: Promise<void> | undefined

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      const [lines, written] = [waiting, next]
      waiting = []
      next = Promise.withResolvers()
      try {
        await file.appendFile(lines.join(''))
        await file.datasync()
        written.resolve()
      } catch (error) {
        written.reject(error)
      }
    }
  }

  return {
    write(entry) {
      waiting.push(`${JSON.stringify(entry)}\n`)
      const { promise } = next
      flushing ??= flush().finally(() => (flushing = undefined))
      return promise
    },
    async close() {
      await flushing
      await file.close()
    },
  }
}

export async function readJournal<Entry>(path: string): Promise<Entry[]> {
  const text = await readFile(path, 'utf8')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Entry)
}

/** Milliseconds since 1970 that never jump, the same in every process of this machine to a few milliseconds. */
export function steadyMs(): number {
  return performance.timeOrigin + performance.now()
}
