import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { promisify } from 'node:util'

/** Where Debian's, Fedora's and Arch's packages put the library that moves a process's clock. */
const places = ['x86_64-linux-gnu/faketime', 'aarch64-linux-gnu/faketime', 'faketime', '../lib64/faketime'].map(
  (place) => `/usr/lib/${place}/libfaketimeMT.so.1`,
)
const installTimeoutMs = 120_000

/** Undefined when this machine has none. */
export async function findFaketime(): Promise<string | undefined> {
  for (const path of places) {
    const found = await access(path).then(
      () => path,
      () => undefined,
    )
    if (found !== undefined) return found
  }
  return undefined
}

/** Installs Debian's package if there is none and root asks. Undefined when that can't be done here: no clock is moved then. */
export async function provideFaketime(say: (line: string) => void): Promise<string | undefined> {
  const found = await findFaketime()
  if (found !== undefined || process.getuid?.() !== 0) return found
  say('installing faketime with apt-get ...')
  const apt = (...args: string[]) =>
    promisify(execFile)('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=60', ...args], { timeout: installTimeoutMs })
  try {
    await apt('update')
    await apt('install', '-y', '--no-install-recommends', 'faketime')
  } catch {
    return undefined // no Debian, or no network: the report says that clocks were left alone
  }
  return findFaketime()
}
