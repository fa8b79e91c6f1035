import { compileRules, type Rule } from '@tenterhook/rules/match'
import type { Connection } from '@tenterhook/store/config'
import type { SourceId } from '@tenterhook/schemas/ids'

/** The configuration as routing reads it: one version of all of it. */
export interface Rulebook {
  version: number
  rulesOf: (source: SourceId) => readonly Rule<Connection>[]
  nameOf: (source: SourceId) => string
}

/** Owns the current rulebook. It may be old: the routing transaction refuses one that isn't the newest (DESIGN §3.9). */
export function createRulebooks(
  read: () => Promise<{ version: number; connections: Connection[]; sourceNames: ReadonlyMap<SourceId, string> }>,
): {
  current(): Promise<Rulebook>
  reload(): Promise<void>
} {
  let book: Promise<Rulebook> | undefined

  async function load(): Promise<Rulebook> {
    const config = await read()
    const bySource = Map.groupBy(compileRules(config.connections), (rule) => rule.connection.sourceId)
    return {
      version: config.version,
      rulesOf: (source) => bySource.get(source) ?? [],
      nameOf: (source) => config.sourceNames.get(source) ?? '',
    }
  }

  function reload(): Promise<Rulebook> {
    const loading = load()
    book = loading
    loading.catch(() => {
      if (book === loading) book = undefined
    })
    return loading
  }

  return {
    current: () => book ?? reload(),
    reload: async () => {
      await reload()
    },
  }
}
