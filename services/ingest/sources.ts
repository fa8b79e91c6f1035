import { compileVerifier, type Verifier } from '@tenterhook/verify/verifier'
import type { Source } from '@tenterhook/store/config'

export interface CompiledSource extends Source {
  verifier: Verifier
}

/**
 * Owns what ingest knows of the sources. A source may have been made, or its secret rotated, a moment ago by another
 * process: `reload` asks Postgres, in a reading that begins after the call, before a sender is told 404 or 401.
 */
export interface Sources {
  find(name: string): CompiledSource | undefined
  /** One reading at a time; callers that come meanwhile share the next. Rejects when Postgres can't be asked. */
  reload(): Promise<void>
}

export function createSources(params: {
  readVersion: () => Promise<number>
  read: () => Promise<{ version: number; sources: Source[] }>
}): Sources {
  let version = -1
  let byName = new Map<string, CompiledSource>()
  let compiled = new Map<string, CompiledSource>()
  let running: Promise<void> | undefined
  let next: Promise<void> | undefined

  async function load(): Promise<void> {
    if ((await params.readVersion()) === version) return
    const config = await params.read()
    const kept = new Map<string, CompiledSource>()
    for (const source of config.sources) {
      const key = `${source.id} ${source.version}`
      kept.set(key, compiled.get(key) ?? { ...source, verifier: compileVerifier(source.spec.verification) })
    }
    compiled = kept
    byName = new Map([...kept.values()].map((source) => [source.spec.name, source]))
    version = config.version
  }

  function start(): Promise<void> {
    running = load().finally(() => {
      running = undefined
    })
    return running
  }

  return {
    find: (name) => byName.get(name),
    reload() {
      if (!running) return start()
      next ??= running
        .catch(() => {})
        .then(() => {
          next = undefined
          return start()
        })
      return next
    },
  }
}
