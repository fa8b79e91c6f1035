import { randomBytes } from 'node:crypto'
import { inject } from 'vitest'
import { parseEnvironment } from '@tenterhook/lifecycle/environment'
import type { HttpServerComponent } from '@tenterhook/lifecycle/http-server'
import { startService } from '@tenterhook/lifecycle/service'
import { openStore, type Store } from '@tenterhook/store/connect'
import { migrate } from '@tenterhook/store/migrate'
import { testKeys } from '../../test/support/store.ts'
import { consoleVariables } from './config.ts'
import { consoleService } from './console.ts'

export const adminTokenOfTests = 'a-token-for-tests-only'

export interface TestDatabase {
  url: string
  store: Store
  /** Ends this application's connections and lets no new one in, until `restore`. */
  cutOff(applicationName: string): Promise<void>
  restore(): Promise<void>
  discard(): Promise<void>
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** Of JSON answers; of a list, `data` holds its rows. */
  json: Record<string, unknown>
  data: Record<string, unknown>[]
}

/** A console as `npm start` runs one, on ports of its own. */
export interface TestConsole {
  url: string
  opsUrl: string
  /** As the CLI does: with the admin token, unless other headers are given. */
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  request(path: string, init: RequestInit): Promise<Answer>
  stop(): Promise<void>
}

/** A migrated database of the test's own. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const name = `t_${randomBytes(6).toString('hex')}`
  const url = new URL(inject('TEST_DATABASE_URL'))
  const admin = openStore({ connectionString: url.href, applicationName: `${name}-admin` })
  await admin.durable.query(`CREATE DATABASE ${name}`)
  url.pathname = name
  await migrate({ connectionString: url.href })
  const store = openStore({ connectionString: url.href, applicationName: name })
  return {
    url: url.href,
    store,
    async cutOff(applicationName) {
      await admin.durable.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`)
      await admin.durable.query({
        text: 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2',
        values: [name, applicationName],
      })
    },
    async restore() {
      await admin.durable.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`)
    },
    async discard() {
      await store.close()
      await admin.durable.query(`DROP DATABASE ${name} WITH (FORCE)`)
      await admin.close()
    },
  }
}

export async function startTestConsole(
  database: TestDatabase,
  variables: Record<string, string> = {},
): Promise<TestConsole> {
  const environment = parseEnvironment(consoleVariables, {
    DATABASE_URL: database.url,
    REDIS_URL: inject('TEST_REDIS_URL'),
    PORT: '0',
    TENTERHOOK_OPS_PORT: '0',
    TENTERHOOK_ENCRYPTION_KEYS: testKeys.map(({ id, key }) => `${id}:${key.toString('base64')}`).join(','),
    LOG_LEVEL: 'silent',
    ...('TENTERHOOK_ADMIN_TOKEN_FILE' in variables ? {} : { TENTERHOOK_ADMIN_TOKEN: adminTokenOfTests }),
    ...variables,
  })
  if (environment.kind === 'invalid') throw new Error(environment.problems.join('\n'))
  const settings = await consoleService(environment.values)
  const service = await startService(settings)
  const url = (settings.components.find(({ name }) => name === 'http') as HttpServerComponent).url()
  const bearer = { Authorization: `Bearer ${adminTokenOfTests}` }

  async function request(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(url + path, { redirect: 'manual', ...init })
    const text = await response.text()
    const isJson = /[/+]json/.test(response.headers.get('content-type') ?? '')
    const json = (isJson ? JSON.parse(text) : {}) as Answer['json']
    return {
      status: response.status,
      headers: response.headers,
      text,
      json,
      data: (json['data'] ?? []) as Answer['data'],
    }
  }

  return {
    url,
    opsUrl: service.opsUrl(),
    request,
    get: (path, headers = bearer) => request(path, { headers }),
    post: (path, body, headers = {}) =>
      request(path, {
        method: 'POST',
        headers: { ...bearer, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
        body: body === undefined ? null : JSON.stringify(body),
      }),
    stop: async () => {
      await service.stop()
    },
  }
}
