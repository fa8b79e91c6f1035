import { open } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'

const syncs = 100

/** What the figures were measured on. What a commit costs hangs on the disk, so its sync is measured too. */
export async function describeMachine(directory: string): Promise<string> {
  const [first, ...rest] = cpus()
  const memoryGb = Math.round(totalmem() / 1024 ** 3)
  const syncMs = await medianSyncMs(join(directory, 'sync-probe'))
  return `${rest.length + 1} × ${first?.model.trim() ?? process.arch}, ${memoryGb} GB, ${process.platform}, Node ${process.version}, fdatasync ${syncMs.toFixed(2)} ms`
}

async function medianSyncMs(path: string): Promise<number> {
  await using file = await open(path, 'w')
  const page = Buffer.alloc(8_192, 'x')
  const times: number[] = []
  for (let n = 0; n < syncs; n++) {
    const from = performance.now()
    await file.write(page)
    await file.datasync()
    times.push(performance.now() - from)
  }
  return times.sort((a, b) => a - b)[syncs / 2] ?? 0
}
