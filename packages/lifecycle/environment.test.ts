import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { describeEnvironment, parseEnvironment } from './environment.ts'
import { databaseUrl, encryptionKeys, flag, port, redisUrl } from './variables.ts'

const shape = {
  DATABASE_URL: databaseUrl,
  PORT: port.default(8080),
  TENTERHOOK_ADMIN_TOKEN: z.string('expected a text').min(20, 'expected 20 characters or more').optional(),
  TENTERHOOK_DEMO: flag.default(true),
}

describe('an environment', () => {
  test('gives typed values and defaults', () => {
    expect(parseEnvironment(shape, { DATABASE_URL: 'postgres://h/d', PORT: '81', OTHER: 'x' })).toEqual({
      kind: 'valid',
      values: { DATABASE_URL: 'postgres://h/d', PORT: 81, TENTERHOOK_ADMIN_TOKEN: undefined, TENTERHOOK_DEMO: true },
    })
  })

  test('with an empty variable has the default, or lacks it', () => {
    expect(parseEnvironment(shape, { DATABASE_URL: 'postgres://h/d', PORT: '' })).toMatchObject({
      values: { PORT: 8080 },
    })
    expect(parseEnvironment(shape, { DATABASE_URL: '' })).toMatchObject({ kind: 'invalid' })
  })

  test('with several faults names them all, each in one line with what was expected and found', () => {
    const variables = { PORT: '99999', TENTERHOOK_ADMIN_TOKEN: 'short', TENTERHOOK_DEMO: 'perhaps' }
    expect(parseEnvironment(shape, variables)).toEqual({
      kind: 'invalid',
      problems: [
        'DATABASE_URL: expected a URL such as postgres://user:password@host:5432/name; found nothing: it is not set',
        'PORT: expected a whole number from 0 to 65535; found "99999"',
        'TENTERHOOK_ADMIN_TOKEN: expected 20 characters or more; found [redacted] (5 characters)',
        'TENTERHOOK_DEMO: expected true or false; found "perhaps"',
      ],
    })
  })

  test('with a very long or many-lined wrong value still gives one short line', () => {
    const parsed = parseEnvironment({ PORT: port }, { PORT: 'a\nb'.repeat(1000) })
    expect(parsed).toMatchObject({ kind: 'invalid' })
    const [problem = ''] = parsed.kind === 'invalid' ? parsed.problems : []
    expect(problem).not.toContain('\n')
    expect(problem.length).toBeLessThan(200)
  })
})

describe('no secret is shown', () => {
  const secret = fc.stringMatching(/^[A-Za-z\d]{12,40}$/).map((text) => `S3${text}`)

  test('of a value that is wrong, whatever its variable is called like', () => {
    const name = fc.constantFrom(
      'TENTERHOOK_ADMIN_TOKEN',
      'STRIPE_WEBHOOK_SECRET',
      'DB_PASSWORD',
      'TENTERHOOK_ENCRYPTION_KEYS',
      'API_KEY',
      'OTEL_EXPORTER_OTLP_HEADERS',
    )
    fc.assert(
      fc.property(name, secret, (variable, value) => {
        const parsed = parseEnvironment({ [variable]: port }, { [variable]: value })
        expect(parsed.kind).toBe('invalid')
        expect(JSON.stringify(parsed)).not.toContain(value)
        expect(JSON.stringify(describeEnvironment({ [variable]: value }))).not.toContain(value)
      }),
    )
  })

  test('of a URL, well formed or not, in its userinfo or its query', () => {
    const around = fc.constantFrom<(s: string) => string>(
      (s) => `postgres://user:${s}@host:5432/db`,
      (s) => `postgres://user:p@ss:${s}@host/db`,
      (s) => `redis://:${s}@host`,
      (s) => `mysql://user:${s}@host/db`,
      (s) => `user:${s}@host/db`,
      (s) => `postgres://user:${s}/x@host/db`,
      (s) => `postgres://host/db?password=${s}`,
      (s) => `https://host/?a=b&sig=${s}`,
    )
    fc.assert(
      fc.property(around, secret, (wrap, value) => {
        const variable = wrap(value)
        expect(JSON.stringify(parseEnvironment({ REDIS_URL: port }, { REDIS_URL: variable }))).not.toContain(value)
        expect(JSON.stringify(describeEnvironment({ REDIS_URL: variable }))).not.toContain(value)
      }),
    )
  })

  test('of encryption keys but their ids', () => {
    const text = `k1:${Buffer.alloc(32, 7).toString('base64')},k0:${Buffer.alloc(32, 8).toString('base64')}`
    const parsed = parseEnvironment(
      { TENTERHOOK_ENCRYPTION_KEYS: encryptionKeys },
      { TENTERHOOK_ENCRYPTION_KEYS: text },
    )
    expect(parsed.kind === 'valid' && describeEnvironment(parsed.values)).toEqual({
      TENTERHOOK_ENCRYPTION_KEYS: ['k1', 'k0'],
    })
  })
})

test('a description shows what is set, without passwords, and leaves out what is not', () => {
  const values = {
    DATABASE_URL: 'postgres://ann:pw@h:5432/d',
    REDIS_URL: 'redis://h:6379/0',
    PORT: 1,
    NOT_SET: undefined,
  }
  expect(parseEnvironment({ REDIS_URL: redisUrl }, { REDIS_URL: 'redis://h:6379/0' }).kind).toBe('valid')
  expect(describeEnvironment(values)).toEqual({
    DATABASE_URL: 'postgres://ann:[redacted]@h:5432/d',
    REDIS_URL: 'redis://h:6379/0',
    PORT: 1,
  })
})

describe('a process', () => {
  function run(variables: Record<string, string>) {
    const path = fileURLToPath(new URL('environment.fixture.ts', import.meta.url))
    return new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, [path], { env: variables }, (error, stdout, stderr) => {
        resolve({ code: error?.code ?? 0, stdout, stderr })
      })
    })
  }

  test('with a right environment runs', async () => {
    expect(await run({ DATABASE_URL: 'postgres://u:pw@h/d', PORT: '1' })).toEqual({
      code: 0,
      stdout: '{"DATABASE_URL":"postgres://u:[redacted]@h/d","PORT":1}',
      stderr: '',
    })
  })

  test('with a wrong one prints a line for each fault, no stack, and exits with 1', async () => {
    const { code, stdout, stderr } = await run({ PORT: 'eighty' })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/^DATABASE_URL: .* not set$/),
      'PORT: expected a whole number from 0 to 65535; found "eighty"',
      '',
    ])
  })
})
