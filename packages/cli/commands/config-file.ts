import { access } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { loadConfigFile, problemLines, type DesiredConfig } from '../config/file.ts'
import type { Refusal } from '../config/apply.ts'
import { readState } from '../local/home.ts'
import { systemCode } from '../local/setup-error.ts'
import { CommandError, ConfigFileError } from './command-error.ts'
import type { Surroundings } from './surroundings.ts'

export const configFileName = 'tenterhook.yaml'

/** The file given, else tenterhook.yaml where the caller stands, else the repository's. */
export async function findConfigFile(
  given: string | undefined,
  { cwd, root }: Pick<Surroundings, 'cwd' | 'root'>,
): Promise<string> {
  if (given !== undefined) return resolve(cwd, given)
  const here = join(cwd, configFileName)
  return (await exists(here)) ? here : join(root, configFileName)
}

/** What the file asks for; its warnings are noted. Throws a ConfigFileError with a line for each problem. */
export async function readConfigFile(
  path: string,
  environment: Surroundings['env'],
  { cwd, note }: Pick<Surroundings, 'cwd' | 'note'>,
): Promise<DesiredConfig> {
  const shown = shownPath(path, cwd)
  try {
    const loaded = await loadConfigFile(path, environment)
    if (loaded.kind === 'invalid') throw new ConfigFileError(problemLines(shown, loaded.problems))
    for (const line of problemLines(shown, loaded.warnings)) note(`warning: ${line}`)
    return loaded.desired
  } catch (error) {
    const code = systemCode(error)
    if (code === undefined || error instanceof ConfigFileError) throw error
    const why = code === 'ENOENT' ? 'is not there' : `can't be read (${code})`
    throw new CommandError('file_unreadable', `${shown} ${why}`, { cause: error })
  }
}

/** In a running copy the demo's destinations are where its receiver listens now, whatever port it was wished. */
export async function configEnvironment({
  env,
  home,
}: Pick<Surroundings, 'env' | 'home'>): Promise<Surroundings['env']> {
  const state = await readState(home)
  return state?.demoUrl === undefined ? env : { ...env, TENTERHOOK_DEMO_PORT: new URL(state.demoUrl).port }
}

/** Why apply changed nothing, a line for each reason, with what to do; `prune` says how to remove all the same. */
export function refusalLines(refusals: readonly Refusal[], prune: string): string[] {
  return refusals.map((refusal) => {
    const { kind, name } = refusal.step
    switch (refusal.why) {
      case 'unfinished':
        return refusal.deliveries === 1
          ? `${kind} ${name} is not removed: it has 1 unfinished delivery; let it end, or ${prune}`
          : `${kind} ${name} is not removed: it has ${refusal.deliveries} unfinished deliveries; let them end, or ${prune}`
      case 'in_use':
        return `${kind} ${name} is not removed: ${refusal.connections.join(', ')}, which this file did not make, leads there`
    }
  })
}

export function shownPath(path: string, cwd: string): string {
  const inside = relative(cwd, path)
  return inside.startsWith('..') ? path : inside
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    throw error
  }
}
