import { Command } from 'commander'
import { z } from 'zod'
import { openHome, readState, resetAdminToken, tokenPath } from '../local/home.ts'
import { CommandError } from './command-error.ts'
import { consoleClient } from './console-client.ts'
import type { Surroundings } from './surroundings.ts'

export function tokenCommand(surroundings: Surroundings): Command {
  const reset = new Command('reset')
    .description('make a new admin token; the one before, and every session it opened, ends')
    .action(async () => {
      const { home, out, note, program } = surroundings
      await openHome(home)
      const token = await resetAdminToken(home)
      out(`admin token, said this once and kept in ${tokenPath(home)}: ${token}`)
      const state = await readState(home)
      if (state && !(await isTaken(state.consoleUrl, token, { home, program })))
        note(
          'the console that runs was started with TENTERHOOK_ADMIN_TOKEN, which still counts: start it again without',
        )
    })
  return new Command('token').description("the console's admin token").addCommand(reset)
}

/** Whether the running console lets the new token in; true when it can't be asked, for then it will read the file. */
async function isTaken(
  url: string,
  token: string,
  { home, program }: Pick<Surroundings, 'home' | 'program'>,
): Promise<boolean> {
  try {
    await consoleClient({ url, token, tokenFrom: tokenPath(home), program, stop: new AbortController().signal }).get(
      '/v1/sources?limit=1',
      z.unknown(),
    )
    return true
  } catch (error) {
    if (error instanceof CommandError) return error.code !== 'token_wrong'
    throw error
  }
}
