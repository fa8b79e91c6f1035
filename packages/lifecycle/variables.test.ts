import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { z } from 'zod'
import {
  cidrList,
  databaseUrl,
  durationMs,
  durationWithin,
  encryptionKeys,
  flag,
  host,
  httpUrl,
  logLevel,
  oneOf,
  port,
  ratio,
  redisUrl,
  wholeNumber,
} from './variables.ts'

const base64Key = (byte: number) => Buffer.alloc(32, byte).toString('base64')

test.each<[string, z.ZodType, [text: string, value: unknown][]]>([
  [
    'a port',
    port,
    [
      ['0', 0],
      ['8080', 8080],
      ['65535', 65_535],
    ],
  ],
  [
    'a whole number',
    wholeNumber({ min: -5, max: 5 }),
    [
      ['-5', -5],
      ['5', 5],
      ['05', 5],
    ],
  ],
  [
    'a duration',
    durationMs,
    [
      ['0ms', 0],
      ['250ms', 250],
      ['15s', 15_000],
      ['1.5h', 5_400_000],
      ['24d', 2_073_600_000],
    ],
  ],
  [
    'a long duration',
    durationWithin('7d', '3650d'),
    [
      ['7d', 604_800_000],
      ['720h', 2_592_000_000],
      ['3650d', 315_360_000_000],
    ],
  ],
  [
    'a flag',
    flag,
    [
      ['true', true],
      ['YES', true],
      ['1', true],
      ['off', false],
      ['0', false],
    ],
  ],
  [
    'a share',
    ratio,
    [
      ['0', 0],
      ['1', 1],
      ['0.25', 0.25],
      ['1.0', 1],
    ],
  ],
  ['a word', oneOf(['a', 'b']), [['b', 'b']]],
  [
    'a log level',
    logLevel,
    [
      ['debug', 'debug'],
      ['silent', 'silent'],
    ],
  ],
  [
    'a host',
    host,
    [
      ['127.0.0.1', '127.0.0.1'],
      ['::1', '::1'],
      ['0.0.0.0', '0.0.0.0'],
      ['localhost', 'localhost'],
    ],
  ],
  [
    'a database',
    databaseUrl,
    [
      ['postgres://u:p@h:1/d', 'postgres://u:p@h:1/d'],
      ['postgresql:///d?host=/run', 'postgresql:///d?host=/run'],
    ],
  ],
  [
    'a Redis',
    redisUrl,
    [
      ['redis://h', 'redis://h'],
      ['rediss://:p@h:1/2', 'rediss://:p@h:1/2'],
    ],
  ],
  ['an HTTP URL', httpUrl, [['http://h:4318', 'http://h:4318']]],
  [
    'address ranges',
    cidrList,
    [
      ['10.0.0.0/8', ['10.0.0.0/8']],
      ['::1, 127.0.0.1,fd00::/8', ['::1/128', '127.0.0.1/32', 'fd00::/8']],
    ],
  ],
  [
    'encryption keys',
    encryptionKeys,
    [
      [
        `k1:${base64Key(1)}, k0:${base64Key(0)}`,
        [
          { id: 'k1', key: Buffer.alloc(32, 1) },
          { id: 'k0', key: Buffer.alloc(32, 0) },
        ],
      ],
    ],
  ],
])('%s is read', (_what, schema, cases) => {
  for (const [text, value] of cases) expect(schema.parse(text), text).toEqual(value)
})

test.each<[string, z.ZodType, string[]]>([
  ['a port', port, ['-1', '65536', '80.5', '8080 ', '0x50', '1e3', 'http', ' ']],
  ['a duration', durationMs, ['25', '-1s', '1 s', '1w', 's', '25d', '999999999999999999h', '1e3s']],
  ['a long duration', durationWithin('7d', '3650d'), ['6d', '3651d', '30', '7']],
  ['a flag', flag, ['maybe', 'truee', '2']],
  ['a share', ratio, ['1.1', '-0.1', '.', '1e-3', '50%']],
  ['a log level', logLevel, ['INFO', 'verbose', 'trace']],
  ['a host', host, ['a b', 'http://h', '-h', 'h:80', '1.2.3.4/8']],
  ['a database', databaseUrl, ['localhost:5432', 'mysql://h/d', 'h', '/run/postgresql']],
  ['a Redis', redisUrl, ['localhost:6379', 'http://h']],
  [
    'address ranges',
    cidrList,
    [
      '10.0.0.0/33',
      '::/129',
      '10.0.0.0/8,',
      'localhost',
      '10.0.0.0/8/8',
      '10/8',
      'fe80::1%eth0',
      '10.0.0.0/-1',
      '10.0.0.0/',
    ],
  ],
  [
    'encryption keys',
    encryptionKeys,
    [
      base64Key(1),
      'k1:',
      `k1:${Buffer.alloc(16).toString('base64')}`,
      `k1:${Buffer.alloc(33).toString('base64')}`,
      `k1:${base64Key(1)},k1:${base64Key(2)}`,
      `k1:${base64Key(1)},`,
      `k 1:${base64Key(1)}`,
      `k1:${Buffer.alloc(32, 255).toString('base64url')}`,
    ],
  ],
])('what is not %s is refused, and the message says what is expected', (_what, schema, texts) => {
  for (const text of [...texts, undefined]) {
    const result = schema.safeParse(text)
    expect(result.success, text).toBe(false)
    expect(result.error?.issues.map(({ message }) => message)).toEqual([expect.stringMatching(/^expected /)])
  }
})

describe('any text', () => {
  test('is either refused or a port', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.integer().map(String)), (text) => {
        const { success, data } = port.safeParse(text)
        expect(success).toBe(/^\d{1,15}$/.test(text) && Number(text) <= 65_535)
        if (success) expect(data).toBe(Number(text))
      }),
    )
  })

  test('that passes as a duration is one that a timer can hold', () => {
    const near = fc
      .tuple(fc.integer({ min: 0, max: 10_000_000 }), fc.constantFrom('ms', 's', 'm', 'h', 'd'))
      .map((parts) => parts.join(''))
    fc.assert(
      fc.property(fc.oneof(fc.string(), near), (text) => {
        const { success, data } = durationMs.safeParse(text)
        if (success) expect(data >= 0 && data < 2 ** 31).toBe(true)
      }),
    )
  })
})
