import { httpUrl } from '@tenterhook/lifecycle/variables'
import { readFile } from 'node:fs/promises'
import type { z } from 'zod'
import { readAdminToken, readState, tokenPath } from '../local/home.ts'
import { systemCode } from '../local/setup-error.ts'
import { CommandError } from './command-error.ts'
import { readVariable } from './database.ts'
import { printable } from './printable.ts'
import type { Surroundings } from './surroundings.ts'

/** The console's management API, for one command. What it refuses, or that it is away, is a CommandError of one line. */
export interface ConsoleClient {
  readonly url: string
  get<Shape extends z.ZodType>(path: string, shape: Shape): Promise<z.output<Shape>>
  /** Safe to repeat with the same key: it is done once. */
  post<Shape extends z.ZodType>(
    path: string,
    request: { key: string; body?: unknown },
    shape: Shape,
  ): Promise<z.output<Shape>>
  download(path: string): Promise<Buffer>
}

const requestTimeoutMs = 15_000

/** The console of the running copy, or at TENTERHOOK_CONSOLE_URL, with the admin token in force there. `stop` ends what is asked of it. */
export async function reachConsole(
  { env, home, program }: Pick<Surroundings, 'env' | 'home' | 'program'>,
  stop: AbortSignal = new AbortController().signal,
): Promise<ConsoleClient> {
  const given = readVariable({ TENTERHOOK_CONSOLE_URL: httpUrl.optional() }, env).TENTERHOOK_CONSOLE_URL
  const found = given ?? (await readState(home))?.consoleUrl
  if (found === undefined) {
    throw new CommandError(
      'not_running',
      `nothing runs in ${home}: start it with \`${program} up\`, or set TENTERHOOK_CONSOLE_URL`,
    )
  }
  const { token, from } = await findToken({ env, home })
  return consoleClient({ url: found.replace(/\/+$/, ''), token, tokenFrom: from, program, stop })
}

async function findToken({ env, home }: Pick<Surroundings, 'env' | 'home'>): Promise<{ token: string; from: string }> {
  if (env['TENTERHOOK_ADMIN_TOKEN']) return { token: env['TENTERHOOK_ADMIN_TOKEN'], from: 'TENTERHOOK_ADMIN_TOKEN' }
  const file = env['TENTERHOOK_ADMIN_TOKEN_FILE']
  const token = file ? await readTokenFile(file) : await readAdminToken(home)
  const from = file || tokenPath(home)
  if (token) return { token, from }
  throw new CommandError(
    'token_unknown',
    `there is no admin token in ${from}: set TENTERHOOK_ADMIN_TOKEN to the console's`,
  )
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    throw new CommandError('token_unknown', `${file} can't be read (${systemCode(error) ?? String(error)})`, {
      cause: error,
    })
  }
}

export function consoleClient({
  url,
  token,
  tokenFrom,
  program,
  stop,
}: {
  url: string
  token: string
  /** Where the token was found, for people. */
  tokenFrom: string
  program: string
  stop: AbortSignal
}): ConsoleClient {
  async function request(
    path: string,
    init: { method?: string; headers?: Record<string, string>; body?: string } = {},
  ) {
    const response = await reach(`${url}${path}`, {
      ...init,
      headers: { ...init.headers, Authorization: `Bearer ${token}` },
      redirect: 'manual',
      signal: AbortSignal.any([stop, AbortSignal.timeout(requestTimeoutMs)]),
    })
    if (response.ok) return response
    const { code, detail } = problemOf(await response.text())
    const said = printable(detail ?? `it answered ${response.status}`).replace(
      /POST \/v1\/events\/(evt_\w+)\/replay/, // whoever asks by a command is told the command
      `${program} replay $1`,
    )
    if (response.status === 401) {
      throw new CommandError(
        'token_wrong',
        `the console at ${url} does not take the admin token of ${tokenFrom}: ${said}`,
      )
    }
    if (response.status === 429 || response.status >= 500) {
      throw new CommandError('console_unreachable', `the console at ${url} can't serve now: ${said}`)
    }
    throw new CommandError('refused_by_console', code === undefined ? `the console at ${url}: ${said}` : said)
  }

  async function reach(target: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(target, init)
    } catch (error) {
      throw new CommandError('console_unreachable', `the console at ${url} does not answer (${causeOf(error)})`, {
        cause: error,
      })
    }
  }

  async function read<Shape extends z.ZodType>(response: Response, shape: Shape): Promise<z.output<Shape>> {
    const parsed = shape.safeParse(await response.json().catch(() => undefined))
    if (parsed.success) return parsed.data
    const [issue] = parsed.error.issues
    const where = issue === undefined || issue.path.length === 0 ? '' : ` (${issue.path.join('.')}: ${issue.message})`
    throw new CommandError(
      'refused_by_console',
      `what answers at ${url} is no Tenterhook console, or one of another version${where}`,
    )
  }

  return {
    url,
    get: async (path, shape) => read(await request(path), shape),
    post: async (path, { key, body = {} }, shape) =>
      read(
        await request(path, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
          body: JSON.stringify(body),
        }),
        shape,
      ),
    download: async (path) => Buffer.from(await (await request(path)).arrayBuffer()),
  }
}

/** Of a problem+json (RFC 9457); both undefined for anything else. */
function problemOf(text: string): { code: string | undefined; detail: string | undefined } {
  try {
    const problem: unknown = JSON.parse(text)
    const field = (name: string) => {
      const value =
        typeof problem === 'object' && problem !== null && Object.hasOwn(problem, name)
          ? (problem as Record<string, unknown>)[name]
          : undefined
      return typeof value === 'string' ? value : undefined
    }
    return { code: field('code'), detail: field('detail') }
  } catch {
    return { code: undefined, detail: undefined }
  }
}

/** `fetch failed` says nothing; what it met is its cause. */
export function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `no answer within ${requestTimeoutMs / 1_000} s`
  const { cause } = error
  return systemCode(cause) ?? (cause instanceof Error ? cause.message : error.message)
}
