import { open } from 'node:fs/promises'
import { isIP } from 'node:net'

/** The file is looked at again after this long, and read again when it has changed. */
const checkIntervalMs = 5_000
/** A longer file (block lists) is read up to here; names behind it are asked of DNS. */
const fileBytesMax = 1_048_576

export type Hosts = {
  /** The addresses of a name (lower case) in the order of the file; empty when it isn't there. */
  addressesOf(name: string): Promise<readonly string[]>
}

/**
 * The names of this machine: `/etc/hosts`, which DNS servers don't know. `localhost` and names under it are always
 * loopback (RFC 6761 §6.3), whether the file has them or not, and never asked of a server.
 *
 * A file that is missing or can't be read has no names, as for the system's own resolver.
 */
export function createHosts({ path, monotonicMs }: { path: string; monotonicMs: () => number }): Hosts {
  let names: ReadonlyMap<string, readonly string[]> = new Map()
  let version = ''
  let checkedMs = -Infinity
  let checking: Promise<void> | undefined

  async function check(): Promise<void> {
    try {
      await using file = await open(path)
      const { mtimeMs, size, ino } = await file.stat()
      const seen = `${mtimeMs} ${size} ${ino}`
      if (seen === version) return
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(Math.min(size, fileBytesMax)), position: 0 })
      names = parseHosts(buffer.toString('utf8', 0, bytesRead))
      version = seen
    } catch {
      names = new Map()
      version = ''
    }
  }

  return {
    async addressesOf(name) {
      if (checking === undefined && monotonicMs() - checkedMs >= checkIntervalMs) {
        checking = check().finally(() => {
          checkedMs = monotonicMs()
          checking = undefined
        })
      }
      await checking
      const found = names.get(name)
      if (found !== undefined) return found
      return name === 'localhost' || name.endsWith('.localhost') ? ['127.0.0.1', '::1'] : []
    },
  }
}

/** hosts(5): an address, then its names; `#` begins a comment; a name on several lines has all their addresses. */
function parseHosts(text: string): Map<string, string[]> {
  const names = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [address = '', ...words] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (isIP(address) === 0) continue
    for (const word of words) {
      const addresses = names.get(word.toLowerCase())
      if (addresses === undefined) names.set(word.toLowerCase(), [address])
      else if (!addresses.includes(address)) addresses.push(address)
    }
  }
  return names
}
