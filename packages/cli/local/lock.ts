import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { homeAdvice } from './home.ts'
import { explainFileError, SetupError, systemCode } from './setup-error.ts'

const sqliteBusy = 5

/**
 * Takes the home for this process, or throws a SetupError that says who has it. The lock is one of the kernel's, on a
 * file that SQLite opens for us: it ends with the process, so no crash leaves it behind and there is nothing to guess.
 */
export async function lockHome(home: string): Promise<{ release: () => void }> {
  const pidPath = join(home, 'pid')
  let file: DatabaseSync | undefined
  try {
    file = new DatabaseSync(join(home, 'lock'))
    file.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE')
  } catch (error) {
    file?.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy) {
      const pid = (await readPid(pidPath)) ?? 'unknown'
      throw new SetupError(
        'already_running',
        `Tenterhook is already running in ${home} (pid ${pid}): stop that one first, or set TENTERHOOK_HOME and other ports for a second copy`,
        { cause: error },
      )
    }
    throw new SetupError('permission_denied', `no permission to lock ${home}: ${homeAdvice}`, { cause: error })
  }
  try {
    await writeFile(pidPath, `${process.pid}\n`)
  } catch (error) {
    file.close()
    throw explainFileError(error, home, homeAdvice)
  }
  const held = file
  return { release: () => held.close() }
}

async function readPid(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}
