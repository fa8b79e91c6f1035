import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadConfigFile, problemLines, type DesiredConfig } from './file.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'config-file-'))
  await writeFile(join(directory, 'secret'), 'from-a-file\n')
})
afterAll(() => rm(directory, { recursive: true }))

async function load(text: string, environment: Record<string, string> = {}) {
  const path = join(directory, 'tenterhook.yaml')
  await writeFile(path, text)
  return loadConfigFile(path, environment)
}

async function problems(text: string, environment?: Record<string, string>): Promise<string[]> {
  const loaded = await load(text, environment)
  return loaded.kind === 'invalid' ? problemLines('t.yaml', loaded.problems) : []
}

async function desired(text: string, environment?: Record<string, string>): Promise<DesiredConfig> {
  const loaded = await load(text, environment)
  if (loaded.kind === 'invalid') throw new Error(problemLines('t.yaml', loaded.problems).join('\n'))
  return loaded.desired
}

const source = (settings: string) => `sources:\n  desk:\n    ${settings.replaceAll('\n', '\n    ')}\n`
const destination = (settings: string) => `destinations:\n  crm:\n    ${settings.replaceAll('\n', '\n    ')}\n`
const connection = (settings: string) =>
  `sources: { desk: { verification: { scheme: none } } }
destinations: { crm: { url: 'https://crm.example' } }
connections:
  desk-to-crm:
    ${settings.replaceAll('\n', '\n    ')}
`

describe('the repository’s tenterhook.yaml', () => {
  const path = join(import.meta.dirname, '../../../tenterhook.yaml')

  test('is the demo of five cases and pushes, with its secrets from the environment or its own', async () => {
    const loaded = await loadConfigFile(path, { STRIPE_WEBHOOK_SECRET: 'whsec_mine', TENTERHOOK_DEMO_PORT: '9999' })
    if (loaded.kind === 'invalid') throw new Error(problemLines('tenterhook.yaml', loaded.problems).join('\n'))
    const { sources, destinations, connections } = loaded.desired
    expect(loaded.warnings).toEqual([])
    expect(sources.map(({ spec }) => spec.name)).toEqual(['stripe', 'github', 'forms', 'shop', 'desk', 'crm'])
    expect(sources[0]?.spec.verification).toEqual({ scheme: 'stripe', secrets: ['whsec_mine'] })
    expect(sources[1]?.spec.verification).toEqual({ scheme: 'github', secrets: ['demo-github-91b7d0e4'] })
    expect(destinations.map(({ spec }) => spec.url)).toContain('http://127.0.0.1:9999/accounting')
    expect(connections).toHaveLength(10)
  })
})

describe('what is wrong', () => {
  test.each([
    // YAML itself
    [
      'no YAML',
      'a: [',
      ['t.yaml:1: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    ],
    ['tabs', 'sources:\n\tdesk: {}\n', ['t.yaml:2: not valid YAML: Tabs are not allowed as indentation']],
    [
      'a name twice',
      `${source('verification: { scheme: none }')}  desk: {}\n`,
      ['t.yaml:4: sources.desk: this key is there twice; expected it once'],
    ],
    [
      'a setting twice',
      destination(`url: https://a.example\nurl: https://b.example`),
      ['t.yaml:4: destinations.crm.url: this key is there twice; expected it once'],
    ],
    ['an alias without its anchor', 'sources: *nowhere\n', ['t.yaml:1: there is no anchor &nowhere before *nowhere']],
    [
      'two documents',
      'sources: {}\n---\nsources: {}\n',
      ['t.yaml:2: not valid YAML: Source contains multiple documents; please use YAML.parseAllDocuments()'],
    ],
    // the file's shape
    ['nothing', '# only a remark\n', ['t.yaml: the file is empty; expected sources, destinations, connections']],
    ['a list', '- a\n', ['t.yaml: expected a map, found a list']],
    [
      'an unknown section',
      'sources: {}\nsourcs: {}\n',
      ['t.yaml:2: sourcs: unknown key "sourcs"; did you mean "sources"?'],
    ],
    [
      'a section that is a list',
      'sources:\n  - name: desk\n',
      ['t.yaml:1: sources: expected a map from names to settings'],
    ],
    ['an entry without settings', 'sources:\n  desk:\n', ['t.yaml:2: sources.desk: expected a map of settings']],
    // names
    [
      'a bad name',
      'destinations:\n  CRM: { url: https://crm.example }\n',
      [
        't.yaml:2: destinations.CRM: expected 1–63 characters a–z, 0–9, "-", "_", "." that begin and end with a letter or digit',
      ],
    ],
    [
      'a name among the settings',
      destination('url: https://crm.example\nname: other'),
      ['t.yaml:4: destinations.crm.name: unknown key "name"; the name is the key above'],
    ],
    // settings
    [
      'an unknown key',
      destination('url: https://crm.example\nheader: {}'),
      ['t.yaml:4: destinations.crm.header: unknown key "header"; did you mean "headers"?'],
    ],
    [
      'an unknown key far from any',
      destination('url: https://crm.example\nretries: 3'),
      [
        't.yaml:4: destinations.crm.retries: unknown key "retries"; expected name, url, method, headers, timeout, auth, signing, tenant, limits, forwardPath',
      ],
    ],
    [
      'an unknown key of a scheme',
      source('verification:\n  scheme: stripe\n  secret: x\n  header: X-A'),
      ['t.yaml:6: sources.desk.verification.header: unknown key "header"; expected scheme, secret, secrets, tolerance'],
    ],
    [
      'a missing key',
      destination('method: PUT'),
      ['t.yaml:2: destinations.crm.url: missing; expected an http or https URL'],
    ],
    [
      'a wrong type',
      destination('url: https://crm.example\nforwardPath: sometimes'),
      ['t.yaml:4: destinations.crm.forwardPath: expected true or false, found text'],
    ],
    [
      'a wrong type in a list',
      source('verification: { scheme: none }\nmethods:\n  - POST\n  - [GET]'),
      ['t.yaml:6: sources.desk.methods[1]: expected one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT'],
    ],
    [
      'a word of none',
      source('verification: { scheme: none }\nmethods: [post]'),
      [
        't.yaml:4: sources.desk.methods[0]: expected one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT; did you mean "POST"?',
      ],
    ],
    [
      'an URL of another kind',
      destination('url: ftp://crm.example'),
      ['t.yaml:3: destinations.crm.url: expected an http or https URL'],
    ],
    [
      'a duration out of bounds',
      destination('url: https://crm.example\ntimeout: 5m'),
      ['t.yaml:4: destinations.crm.timeout: expected a duration between 100ms and 60s'],
    ],
    [
      'a bad header name',
      destination('url: https://crm.example\nheaders:\n  a b: c'),
      ['t.yaml:5: destinations.crm.headers.a b: expected an HTTP header name'],
    ],
    [
      'a mistyped scheme',
      source('verification: { scheme: strpe, secret: x }'),
      ['t.yaml:3: sources.desk.verification.scheme: unknown "strpe"; did you mean "stripe"?'],
    ],
    [
      'no scheme',
      source('verification: { secret: x }'),
      [
        expect.stringMatching(
          /^t\.yaml:3: sources\.desk\.verification\.scheme: missing; expected one of activecampaign, .* zoom$/,
        ),
      ],
    ],
    [
      'no secret',
      source('verification: { scheme: stripe }'),
      ['t.yaml:3: sources.desk.verification.secret: expected secret, or secrets while one is rotated'],
    ],
    ['no verification', source('methods: [POST]'), ['t.yaml:2: sources.desk.verification: missing; expected a map']],
    [
      'a kind of auth',
      destination('url: https://crm.example\nauth: { kind: berer, token: x }'),
      ['t.yaml:4: destinations.crm.auth.kind: expected one of basic, bearer, header, none; did you mean "bearer"?'],
    ],
    [
      'a dedupe rule',
      source('verification: { scheme: none }\ndedupe: { by: boddy }'),
      [
        't.yaml:4: sources.desk.dedupe.by: expected one of auto, body, none; did you mean "body"?; or expected a map, found text',
      ],
    ],
    [
      'inside a dedupe rule',
      source('verification: { scheme: none }\ndedupe: { by: { header: 1 } }'),
      ['t.yaml:4: sources.desk.dedupe.by: header: expected text, found a number'],
    ],
    // connections
    [
      'an unknown source',
      connection('source: dsk\ndestination: crm'),
      ['t.yaml:5: connections.desk-to-crm.source: there is no source "dsk"; did you mean "desk"?'],
    ],
    [
      'an unknown destination',
      connection('source: desk\ndestination: warehouse'),
      ['t.yaml:6: connections.desk-to-crm.destination: there is no destination "warehouse"; expected one of crm'],
    ],
    [
      'a filter’s operator',
      connection('source: desk\ndestination: crm\nfilter:\n  body:\n    score: { $gtt: 80 }'),
      [
        expect.stringMatching(
          /^t\.yaml:9: connections\.desk-to-crm\.filter\.body\.score\.\$gtt: .*did you mean "\$gt"\?/,
        ),
      ],
    ],
    [
      'a filter’s operand',
      connection('source: desk\ndestination: crm\nfilter:\n  $or:\n    - type: a\n    - body.score: { $in: 80 }'),
      [
        expect.stringMatching(
          /^t\.yaml:10: connections\.desk-to-crm\.filter\.\$or\[1\]\.body\.score\.\$in: .*; expected /,
        ),
      ],
    ],
    [
      'a filter’s field',
      connection('source: desk\ndestination: crm\nfilter: { payload: 1 }'),
      [expect.stringMatching(/^t\.yaml:7: connections\.desk-to-crm\.filter\.payload: .*; expected .*body/)],
    ],
    [
      'an order’s path',
      connection('source: desk\ndestination: crm\norder: customer.id'),
      [
        't.yaml:7: connections.desk-to-crm.order: unknown field "customer"; expected a path that begins with body, headers, query, path, type, source',
      ],
    ],
    [
      'an order’s path among its settings',
      connection('source: desk\ndestination: crm\norder:\n  by: bod.id'),
      [expect.stringMatching(/^t\.yaml:8: connections\.desk-to-crm\.order\.by: .*did you mean "body"\?/)],
    ],
    [
      'an order’s settings',
      connection('source: desk\ndestination: crm\norder: { by: body.id, onFailur: skip }'),
      ['t.yaml:7: connections.desk-to-crm.order.onFailur: unknown key "onFailur"; did you mean "onFailure"?'],
    ],
    [
      'an order that is none',
      connection('source: desk\ndestination: crm\norder: [body.id]'),
      ['t.yaml:7: connections.desk-to-crm.order: expected text, found a list; or expected a map, found a list'],
    ],
    // limits and signing
    [
      'limits',
      destination('url: https://a.example\nlimits: { perSecond: 0, perMinut: 5, concurrency: many }'),
      [
        't.yaml:4: destinations.crm.limits.perSecond: expected a whole number from 1 to 10000',
        't.yaml:4: destinations.crm.limits.concurrency: expected a whole number from 1 to 2000',
        't.yaml:4: destinations.crm.limits.perMinut: unknown key "perMinut"; did you mean "perMinute"?',
      ],
    ],
    [
      'limits without one',
      destination('url: https://a.example\nlimits: {}'),
      ['t.yaml:4: destinations.crm.limits: expected at least one of perSecond, perMinute, perHour, concurrency'],
    ],
    [
      'a tenant',
      destination('url: https://a.example\ntenant: Acme Inc.'),
      [expect.stringMatching(/^t\.yaml:4: destinations\.crm\.tenant: expected 1–63 characters a–z/)],
    ],
    [
      'a signing secret',
      destination('url: https://a.example\nsigning:\n  secrets:\n    - whsec_c2hvcnQ=\n    - whsk_AAAA'),
      [
        't.yaml:6: destinations.crm.signing.secrets[0]: expected base64 of 12 to 1024 bytes after whsec_, found 5',
        expect.stringMatching(
          /^t\.yaml:7: destinations\.crm\.signing\.secrets\[1\]: expected an ed25519 private key after whsk_/,
        ),
      ],
    ],
    // renames
    [
      'a rename from what is still there',
      `${destination('url: https://a.example')}  new: { url: https://b.example, renamedFrom: crm }\n`,
      [
        expect.stringMatching(
          /^t\.yaml:4: destinations\.new\.renamedFrom: "crm" is defined in this file too; expected a name that is gone/,
        ),
      ],
    ],
    [
      'two renames from one',
      'destinations:\n  a: { url: https://a.example, renamedFrom: old }\n  b: { url: https://b.example, renamedFrom: old }\n',
      [
        't.yaml:2: destinations.a.renamedFrom: another entry is renamed from "old" too; expected one',
        't.yaml:3: destinations.b.renamedFrom: another entry is renamed from "old" too; expected one',
      ],
    ],
    [
      'a rename from no name',
      destination('url: https://a.example\nrenamedFrom: 7'),
      ['t.yaml:4: destinations.crm.renamedFrom: expected the name that this had before'],
    ],
    // references
    [
      'a missing variable',
      source("verification:\n  scheme: stripe\n  secret: '${STRIPE_SECRET}'"),
      [
        't.yaml:5: sources.desk.verification.secret: STRIPE_SECRET is not set; expected the environment variable STRIPE_SECRET, or a fallback: ${STRIPE_SECRET:-…}',
      ],
    ],
    [
      'a missing variable in a list',
      source("verification:\n  scheme: stripe\n  secrets:\n    - old\n    - '${STRIPE_SECRET}'"),
      [expect.stringMatching(/^t\.yaml:7: sources\.desk\.verification\.secrets\[1\]: STRIPE_SECRET is not set/)],
    ],
    [
      'a missing variable, once: not what follows from it',
      destination("url: '${CRM_URL}'"),
      [expect.stringMatching(/^t\.yaml:3: destinations\.crm\.url: CRM_URL is not set/)],
    ],
    [
      'a missing file',
      source('verification: { scheme: stripe, secret: file:nowhere }'),
      [
        "t.yaml:3: sources.desk.verification.secret: nowhere can't be read (ENOENT); expected a readable file that holds one secret",
      ],
    ],
    [
      'a mistyped reference',
      source("verification: { scheme: stripe, secret: '${SECRET-x}' }"),
      [
        't.yaml:3: sources.desk.verification.secret: ${SECRET-x} is not a reference; expected ${NAME}, ${NAME:-otherwise}, or $${ for a literal ${',
      ],
    ],
  ])('%s', async (_, text, lines) => {
    expect(await problems(text)).toEqual(lines)
  })

  test('is told all at once, in the order of the file', async () => {
    const lines = await problems(`
destinations:
  crm: { url: crm.example }
sources:
  desk: { verification: { scheme: nonee } }
connections:
  a: { source: desk, destination: crm }
  b: { source: desk, destination: nowhere, filter: { body: { $eqq: 1 } } }
`)
    expect(lines.map((line) => line.split(': ', 2).join(': '))).toEqual([
      't.yaml:3: destinations.crm.url',
      't.yaml:5: sources.desk.verification.scheme',
      't.yaml:8: connections.b.destination',
      't.yaml:8: connections.b.filter.body.$eqq',
    ])
  })

  test('never shows a secret', async () => {
    const lines = await problems(
      `${source("verification: { scheme: bearer, secret: '${S}' }\nmethods: ['${S}']")}${destination("url: '${S}'\nsigning: { secrets: ['${S}'] }\nauth: { kind: bearer, token: '${S}' }")}`,
      { S: 'hidden\u0001value' },
    )
    expect(lines).toHaveLength(5)
    expect(lines.join('\n')).not.toContain('hidden')
  })

  test('a file that is not there is a system error, for the caller to tell', async () => {
    await expect(loadConfigFile(join(directory, 'nowhere.yaml'), {})).rejects.toMatchObject({ code: 'ENOENT' })
  })
})

describe('what is right', () => {
  test('an explicit nothing is nothing', async () => {
    expect(await desired('sources: {}\n')).toEqual({ sources: [], destinations: [], connections: [] })
    expect(await desired('sources:\ndestinations:\n')).toEqual({ sources: [], destinations: [], connections: [] })
  })

  test('references are filled in, through anchors too, and a name that looks like a number is a name', async () => {
    const { sources, destinations } = await desired(
      `
sources:
  a: { verification: &proof { scheme: github, secrets: ['\${ONE}', 'file:secret', '\${FILE}', '$\${literal}'] } }
  b: { verification: *proof }
destinations:
  123: { url: 'https://\${HOST:-fallback.example}/' }
`,
      { ONE: 'one', FILE: 'file:secret' },
    )
    const verification = { scheme: 'github', secrets: ['one', 'from-a-file', 'from-a-file', '${literal}'] }
    expect(sources.map(({ spec }) => spec.verification)).toEqual([verification, verification])
    expect(destinations[0]?.spec).toMatchObject({ name: '123', url: 'https://fallback.example/' })
  })

  test('a filter may look for texts that begin with file:', async () => {
    const { connections } = await desired(connection('source: desk\ndestination: crm\nfilter: { body.url: "file:x" }'))
    expect(connections[0]?.spec.filter).toEqual({ 'body.url': 'file:x' })
  })

  test('renamedFrom is kept beside the settings', async () => {
    const { destinations } = await desired(destination('url: https://crm.example\nrenamedFrom: old'))
    expect(destinations).toMatchObject([{ renamedFrom: 'old', spec: { name: 'crm' } }])
    expect(destinations[0]?.spec).not.toHaveProperty('renamedFrom')
  })
})
