import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Received } from '@tenterhook/cli/demo/receiver'
import { guard, openServerDirectories, type Guarded } from '@tenterhook/cli/local/guardian'
import { readAdminToken, readState, type RunningState } from '@tenterhook/cli/local/home'
import { samples } from '@tenterhook/verify/samples'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { until } from '../support/poll.ts'
import { root } from '../support/service-process.ts'

/** The command as people run it, on a whole copy of the product that `up` started on ports of its own. */
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 })

const main = join(root, 'packages/cli/main.ts')
const demoFile = join(root, 'tenterhook.yaml')
const startTimeoutMs = 60_000

let directory: string
let home: string
let running: Running
beforeAll(async () => {
  // The name by which test/support/servers.ts knows whose it is when this process is gone.
  directory = await mkdtemp(join(tmpdir(), `tenterhook-test-${process.pid}-`))
  home = join(directory, 'home')
  await openServerDirectories(directory)
  running = await startUp()
})
afterAll(async () => {
  await running.stop()
  await rm(directory, { recursive: true, force: true, maxRetries: 3 })
})

interface Running {
  said(): Promise<string>
  state: RunningState
  stop(): Promise<number | null>
}

function environment(more: Record<string, string> = {}): Record<string, string> {
  const { PATH = '', HOME = '' } = process.env
  return { PATH, HOME, TENTERHOOK_HOME: home, TENTERHOOK_OPS_PORT_BASE: '0', ...more }
}

/** `tenterhook up`, on a leash: it stops with this process, however that ends. */
async function startUp(...flags: string[]): Promise<Running> {
  const logPath = join(directory, `logs/up-${(await readdir(join(directory, 'logs'))).length}.log`)
  const up: Guarded = guard({
    name: 'up',
    command: process.execPath,
    args: [main, 'up', '--ingest-port', '0', '--console-port', '0', '--demo-port', '0', ...flags],
    env: environment(),
    cwd: directory,
    logPath,
    recordPath: join(directory, 'run/up.json'),
    stopSignal: 'SIGINT',
    graceMs: 40_000,
  })
  const said = () => readFile(logPath, 'utf8')
  const ended = up.exited.then(async ({ code }) => {
    throw new Error(`up ended with ${code}:\n${await said()}`)
  })
  ended.catch(() => {})
  await Promise.race([
    until(async () => /^ready /m.test(await said()), { what: 'the line ready', timeoutMs: startTimeoutMs }),
    ended,
  ])
  const state = await readState(home)
  if (!state) throw new Error('up says ready and keeps no state')
  return { said, state, stop: async () => (await up.stop()).code }
}

interface Ran {
  code: number
  out: string
  err: string
}

function tenterhook(args: readonly string[], { env = {}, cwd = directory } = {}): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: environment(env), cwd, timeout: 30_000 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    )
  })
}

async function config(name: string, change: (text: string) => string): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, change(await readFile(demoFile, 'utf8')))
  return path
}

/** Where a text stands in a file of the test's, as problems are told. */
async function lineOf(path: string, text: string): Promise<number> {
  const before = (await readFile(path, 'utf8')).split(text)[0] ?? ''
  return before.split('\n').length
}

async function received(): Promise<Received[]> {
  return (await (await fetch(`${running.state.demoUrl}/received`)).json()) as Received[]
}

interface Shown {
  state: string
  deliveries: {
    id: string
    connection: { name: string }
    state: string
    failures: number
    deadReason: string | null
    replayOf: string | null
  }[]
}

async function api(path: string): Promise<unknown> {
  const headers = { Authorization: `Bearer ${await readAdminToken(home)}` }
  return (await fetch(`${running.state.consoleUrl}/v1${path}`, { headers })).json()
}

function isDone({ state, deliveries }: Shown): boolean {
  return state === 'routed' && deliveries.every((one) => one.state === 'delivered')
}

/** Waits for a delivery of an event; gives its id. */
function untilDelivery(
  eventId: string,
  what: string,
  is: (one: Shown['deliveries'][number]) => boolean,
): Promise<string> {
  return until(async () => ((await api(`/events/${eventId}`)) as Shown).deliveries.find(is)?.id, {
    what: `${what} of ${eventId}`,
    timeoutMs: 20_000,
    everyMs: 50,
  })
}

const eventIdIn = ({ out }: Ran) => /evt_[0-9a-z]{26}/.exec(out)?.[0] ?? ''

describe('up', () => {
  it('applies tenterhook.yaml before it is ready, in a line', async () => {
    const lines = (await running.said()).split('\n')
    const applied = lines.indexOf(`${demoFile}: created 6 sources, 7 destinations and 10 connections`)
    expect(applied).toBeGreaterThan(-1)
    expect(lines.findIndex((line) => line.startsWith('ready '))).toBeGreaterThan(applied)
  })

  it('with a file that is wrong starts nothing, and says each line', async () => {
    const path = await config('wrong.yaml', (text) =>
      text.replace('scheme: stripe', 'scheme: strpe').replace('$gt', '$gtt'),
    )
    const elsewhere = join(directory, 'elsewhere')
    const { code, out, err } = await tenterhook(['up', '--config', path], { env: { TENTERHOOK_HOME: elsewhere } })
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(err.trimEnd().split('\n')).toEqual([
      `wrong.yaml:${await lineOf(path, 'strpe')}: sources.stripe.verification.scheme: unknown "strpe"; did you mean "stripe"?`,
      expect.stringContaining(
        `wrong.yaml:${await lineOf(path, '$gtt')}: connections.hot-lead-to-campaigns.filter.body.score.$gtt: unknown operator "$gtt"; did you mean "$gt"?`,
      ),
    ])
    await expect(stat(elsewhere)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('a second one is told that one runs', async () => {
    const { code, err } = await tenterhook(['up'])
    expect({ code, err }).toEqual({
      code: 1,
      err: expect.stringMatching(/^tenterhook: Tenterhook is already running in .*\n$/),
    })
  })
})

describe('diff and apply', () => {
  it('of what is applied already: nothing, by the ports that are in use', async () => {
    expect(await tenterhook(['diff'])).toEqual({ code: 0, out: 'nothing to change\n', err: '' })
    expect(await tenterhook(['apply'])).toEqual({ code: 0, out: 'nothing to change\n', err: '' })
  })

  it('take the file named, else the one where the caller stands; the next event is routed by it', async () => {
    const path = await config('changed.yaml', (text) => text.replace('{ $gt: 80 }', '{ $gt: 30 }'))
    const plan = '~ connection hot-lead-to-campaigns (filter.body.score.$gt)\n'
    expect(await tenterhook(['diff', 'changed.yaml'])).toEqual({ code: 2, out: plan, err: '' })
    const applied = await tenterhook(['apply', path])
    expect(applied).toEqual({ code: 0, err: '', out: expect.stringContaining(`${plan}applied as version `) })
    expect((await tenterhook(['diff', path])).code).toBe(0)

    const before = (await received()).length
    expect((await tenterhook(['trigger', 'crm.lead.scored.low'])).code).toBe(0)
    await until(async () => (await received()).length > before, { what: 'the lead to arrive' })

    await config('tenterhook.yaml', (text) => text)
    expect((await tenterhook(['apply'])).out).toContain(plan)
    await rm(join(directory, 'tenterhook.yaml'))
  })

  it('of a file that is wrong, or not there, change nothing', async () => {
    const path = await config('wrong.yaml', (text) => text.replace('destination: accounting', 'destination: acounting'))
    for (const command of ['diff', 'apply']) {
      expect(await tenterhook([command, path])).toEqual({
        code: 1,
        out: '',
        err: `wrong.yaml:${await lineOf(path, 'acounting')}: connections.payment-to-accounting.destination: there is no destination "acounting"; did you mean "accounting"?\n`,
      })
    }
    expect(await tenterhook(['apply', 'nowhere.yaml'])).toEqual({
      code: 1,
      out: '',
      err: 'tenterhook: nowhere.yaml is not there\n',
    })
  })

  it('do not remove what has unfinished deliveries, unless told so', async () => {
    const more = await config('more.yaml', (text) =>
      text
        .replace('\nconnections:\n', "  away: { url: 'http://127.0.0.1:9/' }\n\nconnections:\n")
        .replace(/$/, '\n  ticket-away: { source: desk, destination: away }\n'),
    )
    expect((await tenterhook(['apply', more])).code).toBe(0)
    const id = eventIdIn(await tenterhook(['trigger', 'desk.ticket.created.normal']))
    await untilDelivery(
      id,
      'the failure',
      ({ connection, failures }) => connection.name === 'ticket-away' && failures > 0,
    )

    const refused = await tenterhook(['apply'])
    expect(refused).toMatchObject({ code: 1, out: '' })
    expect(refused.err).toMatch(
      /^destination away is not removed: it has 1 unfinished delivery; let it end, or say --prune$/m,
    )
    expect((await tenterhook(['apply', '--prune'])).out).toMatch(/^- destination away$/m)
    await untilDelivery(id, 'the dead letter', ({ deadReason }) => deadReason === 'destination_deleted')
    expect((await tenterhook(['events', 'get', id])).out).toContain('ticket-away → away dead (destination_deleted)')
  })
})

describe('trigger', () => {
  const cases: [string, string[]][] = [
    ['stripe.payment_intent.succeeded', ['/accounting', '/crm']],
    ['github.push', ['/chat', '/project']],
    ['forms.contact', ['/crm']],
    ['shop.inventory.updated', ['/pos', '/web']],
    ['desk.ticket.created', ['/chat', '/project']],
    ['desk.ticket.created.normal', ['/project']],
    ['crm.lead.scored', ['/campaigns']],
    ['crm.lead.scored.low', []],
  ]

  it('sends what the demo is about, each to where it belongs', async () => {
    for (const [name, paths] of cases) {
      const before = (await received()).length
      const ran = await tenterhook(['trigger', name])
      expect(ran, name).toMatchObject({ code: 0, err: '' })
      const id = eventIdIn(ran)
      expect(ran.out).toContain(`look at it: tenterhook events get ${id}\n`)
      await until(async () => isDone((await api(`/events/${id}`)) as Shown), {
        what: `${name} to be delivered`,
        timeoutMs: 20_000,
        everyMs: 50,
      })
      const arrived = (await received()).slice(before).filter(({ status }) => status === 200)
      expect(arrived.map(({ path }) => path).toSorted(), name).toEqual(paths)
    }
  })

  it('forges, and is content with being refused', async () => {
    const bad = await tenterhook(['trigger', 'github.push', '--bad-signature'])
    expect(bad).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^401 .*signature_mismatch.*\nrefused, as it should be$/m),
    })
    const stale = await tenterhook(['trigger', 'stripe.charge.failed', '--stale'])
    expect(stale).toMatchObject({ code: 0, out: expect.stringMatching(/^401 .*timestamp_stale/m) })
    expect(await tenterhook(['trigger', 'github.push', '--stale'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('has no timestamp that could be stale'),
    })
  })

  it('sends twice, and the second is a duplicate', async () => {
    const { code, out } = await tenterhook(['trigger', 'stripe.customer.created', '--duplicate'])
    expect(code).toBe(0)
    const ids = [...out.matchAll(/"id":"(evt_[0-9a-z]{26})"/g)].map(([, id]) => id)
    expect(ids).toHaveLength(2)
    expect(new Set(ids).size).toBe(1)
    expect(out).toContain('the second was recognised as a duplicate')
  })

  it('sends many, with data and headers of ours', async () => {
    const args = [
      'trigger',
      'github.push',
      '--count',
      '3',
      '--data',
      '{"ref":"refs/heads/other"}',
      '--header',
      'X-Own: yes',
    ]
    const { code, out } = await tenterhook(args)
    expect({ code, last: out.trimEnd().split('\n').at(-1) }).toEqual({ code: 0, last: '3 of 3 answered as expected' })
    const event = await tenterhook(['events', 'get', eventIdIn({ code, out, err: '' })])
    expect(event.out).toContain('X-Own: yes')
    expect(event.out).toContain('refs/heads/other')
  })

  it('sends the bytes of a file as they are', async () => {
    const bytes = Buffer.from([0, 1, 0xff, 0x0a])
    await writeFile(join(directory, 'body.bin'), bytes)
    const sent = await tenterhook(['trigger', 'desk.own', '--data', '@body.bin'])
    expect(sent).toMatchObject({ code: 0, err: '' })
    const id = eventIdIn(sent)
    expect((await tenterhook(['events', 'get', id])).out, id).toContain('00000000  00 01 ff 0a')
  })

  it.each([
    [['trigger', 'stripe.charge.fialed'], 'did you mean "stripe.charge.failed"?'],
    [['trigger', 'erp.order.shipped'], 'no source is called erp or verifies as erp'],
    [['trigger', 'github.push', '--source', 'gihub'], 'did you mean "github"?'],
    [['trigger', 'github.push', '--count', '1001'], 'expected a whole number from 1 to 1000'],
    [['trigger', 'github.push', '--data', '{'], '--data is not JSON'],
    [['trigger', 'github.push', '--data', '@nowhere'], "can't be read (ENOENT)"],
    [['trigger', 'github.push', '--header', 'a b: c'], 'expected name:value'],
  ])('%j is refused in a line', async (args, words) => {
    const { code, err } = await tenterhook(args)
    expect(code).toBe(1)
    expect(err).toContain(words)
    expect(err).not.toMatch(/^\s+at /m)
  })
})

describe('events, replay and retry', () => {
  it('get tells of every attempt, the refused first among them', async () => {
    // The demo refuses its CRM's first delivery, which an earlier test has made.
    const list = await tenterhook(['events', 'get', await firstCrmEvent()])
    expect(list.out).toMatch(/form-to-crm|payment-to-crm/)
    expect(list.out).toMatch(
      /attempt 1 {2}\S+ {2}rejected {2}503 in \d+ ms\n {4}attempt 2 {2}\S+ {2}delivered {2}200 in \d+ ms/,
    )
  })

  it('get gives the body byte for byte, and all as JSON', async () => {
    const id = eventIdIn(await tenterhook(['trigger', 'forms.contact', '--data', '{"id":"7"}']))
    const sample = samples['forms.contact']?.({ id: '7', nowMs: 0 })
    expect((await tenterhook(['events', 'get', id, '--body'])).out).toBe(sample?.body.toString())
    const all = JSON.parse((await tenterhook(['events', 'get', id, '--json'])).out) as Record<string, unknown>
    expect(all).toMatchObject({ id, source: { name: 'forms' }, deliveries: expect.any(Array) })
  })

  it('replay delivers again, once for each key', async () => {
    const id = eventIdIn(await tenterhook(['trigger', 'shop.inventory.updated']))
    await until(async () => isDone((await api(`/events/${id}`)) as Shown), { what: 'both deliveries', everyMs: 50 })
    const once = await tenterhook(['replay', id, '--connection', 'stock-to-web', '--key', 'k-1'])
    expect(once).toEqual({
      code: 0,
      err: '',
      out: expect.stringMatching(/^stock-to-web {2}dlv_[0-9a-z]{26}\nsee how it goes/),
    })
    expect(await tenterhook(['replay', id, '--connection', 'stock-to-web', '--key', 'k-1'])).toEqual(once)
    await untilDelivery(id, 'the replay', ({ state, replayOf }) => state === 'delivered' && replayOf === id)
    expect((await tenterhook(['events', 'get', id])).out).toContain('stock-to-web → web delivered (a replay)')
    expect(await tenterhook(['replay', id, '--connection', 'none-such'])).toMatchObject({
      code: 1,
      err: "tenterhook: connections: the event's source has no connection none-such\n",
    })
  })

  it('retry of what has arrived is refused, of what waits is due now', async () => {
    const id = eventIdIn(await tenterhook(['trigger', 'github.push']))
    const toChat = ({ connection }: Shown['deliveries'][number]) => connection.name === 'push-to-chat'
    const delivery = await untilDelivery(id, 'the delivery', (one) => toChat(one) && one.state === 'delivered')
    expect(await tenterhook(['retry', delivery])).toMatchObject({
      code: 1,
      err: expect.stringContaining('this delivery has arrived'),
    })

    // Away, and for longer than a slow machine takes to say so.
    const away = await config('away.yaml', (text) =>
      text
        .replace(/(chat: \{ url: 'http:\/\/127.0.0.1:)[^/]*/, '$19')
        .replace('destination: chat, filter: { type: push }', '$&, retry: { schedule: [10m] }'),
    )
    await tenterhook(['apply', away])
    const waiting = eventIdIn(await tenterhook(['trigger', 'github.push']))
    const waits = await untilDelivery(waiting, 'the failure', (one) => toChat(one) && one.state === 'retrying')
    await tenterhook(['apply'])
    expect(await tenterhook(['retry', waits])).toEqual({ code: 0, err: '', out: 'it was retrying, and is due now\n' })
    await untilDelivery(waiting, 'the delivery', (one) => toChat(one) && one.state === 'delivered')
  })

  it('cancel ends what waits, and is refused for what has ended', async () => {
    await tenterhook(['pause', 'destination', 'chat'])
    const id = eventIdIn(await tenterhook(['trigger', 'github.push']))
    const held = await untilDelivery(id, 'the held one', ({ connection }) => connection.name === 'push-to-chat')
    expect(await tenterhook(['cancel', held])).toEqual({ code: 0, err: '', out: 'it is cancelled\n' })
    await tenterhook(['resume', 'destination', 'chat'])
    const other = await untilDelivery(id, 'the other', ({ state }) => state === 'delivered')
    expect(await tenterhook(['cancel', other])).toMatchObject({
      code: 1,
      err: 'tenterhook: this delivery is delivered: there is nothing left to cancel\n',
    })
  })

  it('pause holds a connection, or a destination, until resume; destinations tells what waits', async () => {
    const pause = ['pause', 'connection', 'ticket-to-project', '--reason', 'they import']
    const paused = { code: 0, err: '', out: 'connection ticket-to-project is paused: they import\n' }
    expect(await tenterhook(pause)).toEqual(paused)
    expect(await tenterhook(pause.slice(0, 3))).toEqual(paused)
    const id = eventIdIn(await tenterhook(['trigger', 'desk.ticket.created.normal']))
    await untilDelivery(id, 'the held one', ({ state }) => state === 'pending')
    expect((await tenterhook(['events', 'get', id])).out).toContain('project pending (held: connection paused)')

    await tenterhook(['pause', 'destination', 'project', '--reason', 'they move'])
    const table = (await tenterhook(['destinations'])).out.split('\n')
    expect(table[0]).toMatch(/^destination +waiting +admitted +health$/)
    expect(table.find((line) => line.startsWith('project'))).toMatch(/^project +1 +0 of \d+ +paused: they move$/)
    expect(table.find((line) => line.startsWith('pos'))).toMatch(/^pos +0 +0 of \d+ +well$/)
    const first = JSON.parse((await tenterhook(['destinations', '--json'])).out.split('\n')[0] ?? '') as object
    expect(first).toMatchObject({ id: expect.stringMatching(/^dst_/), health: { state: 'closed' } })

    for (const [kind, name] of [
      ['destination', 'project'],
      ['connection', 'ticket-to-project'],
    ] as const)
      expect(await tenterhook(['resume', kind, name])).toEqual({ code: 0, err: '', out: `${kind} ${name} runs\n` })
    await untilDelivery(id, 'the delivery', ({ state }) => state === 'delivered')
  })

  it('tail tells each event in a line, also after the console came back, until Ctrl-C', async () => {
    const logPath = join(directory, 'logs/tail.log')
    const tail = guard({
      name: 'tail',
      command: process.execPath,
      args: [main, 'events', 'tail', '--source', 'desk'],
      env: environment(),
      cwd: directory,
      logPath,
      recordPath: join(directory, 'run/tail.json'),
      stopSignal: 'SIGINT',
      graceMs: 10_000,
    })
    const said = () => readFile(logPath, 'utf8')
    const untilSaid = (text: string) =>
      until(async () => (await said()).includes(text), { what: text, timeoutMs: 20_000, everyMs: 100 })
    const first = eventIdIn(await tenterhook(['trigger', 'desk.ticket.created']))
    await untilSaid(`${first}  desk  ticket.created`)
    expect(await said()).toMatch(new RegExp(`${first} .*→ project delivered, chat delivered$`, 'm'))

    const { pid } = JSON.parse(await readFile(join(home, 'run/console.json'), 'utf8')) as { pid: number }
    process.kill(pid, 'SIGKILL')
    await untilSaid('waiting for it')
    await untilSaid('the console answers again')
    await tenterhook(['trigger', 'github.push'])
    const second = eventIdIn(await tenterhook(['trigger', 'desk.ticket.created.normal']))
    await untilSaid(second)
    expect((await said()).split(first)).toHaveLength(2)
    expect(await said()).not.toContain('github')
    expect(await tail.stop()).toEqual({ code: 0, signal: null })
  })

  it.each([
    [['events', 'get', 'evt_x'], 'there is no event "evt_x"'],
    [['replay', 'evt_00000000000000000000000000'], 'there is no event "evt_00000000000000000000000000"'],
    [['retry', 'nonsense'], 'there is no delivery "nonsense"'],
    [['cancel', 'nonsense'], 'there is no delivery "nonsense"'],
    [['pause', 'connection', 'nobody'], 'there is no connection "nobody"'],
    [['resume', 'destination', 'nobody'], 'there is no destination "nobody"'],
    [['events', 'tail', '--source', 'never'], 'source: there never was a source "never"'],
  ])('%j is told in one line', async (args, words) => {
    const { code, out, err } = await tenterhook(args)
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(err).toMatch(/^tenterhook: [^\n]*\n$/)
    expect(err).toContain(words)
  })
})

describe('doctor', () => {
  it('finds nothing wrong in a copy that runs, and says what is survived', async () => {
    const { code, out } = await tenterhook(['doctor'])
    expect(out).toMatch(/^ok {4}durability {2}an accepted event survives the kill of any process, and power loss/m)
    for (const name of [
      'postgres',
      'schema',
      'clock',
      'partitions',
      'keys',
      'redis',
      'ingest',
      'router',
      'dispatcher',
      'console',
      'senders',
      'people',
    ])
      expect(out).toMatch(new RegExp(`^ok {4}${name} `, 'm'))
    expect({ code, last: out.trimEnd().split('\n').at(-1) }).toEqual({
      code: 0,
      last: expect.stringMatching(/ 0 wrong$/),
    })
  })

  it('finds a service that hangs', async () => {
    const { pid } = JSON.parse(await readFile(join(home, 'run/router.json'), 'utf8')) as { pid: number }
    process.kill(pid, 'SIGSTOP')
    try {
      const { code, out } = await tenterhook(['doctor'])
      expect(code).toBe(1)
      expect(out).toMatch(/^fail {2}router {6}.* does not answer/m)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  })
})

describe('the rest', () => {
  it('without a running copy says so, in one line', async () => {
    const env = { TENTERHOOK_HOME: join(directory, 'elsewhere') }
    for (const args of [
      ['apply'],
      ['diff'],
      ['trigger', 'github.push'],
      ['events', 'tail'],
      ['replay', 'evt_1'],
      ['migrate'],
    ]) {
      const { code, err } = await tenterhook(args, { env })
      expect(code, args.join(' ')).toBe(1)
      expect(err).toMatch(/^tenterhook: nothing runs in [^\n]*\n$/)
    }
    expect((await tenterhook(['doctor'], { env })).code).toBe(1)
  })

  it('names commands as whoever stands there calls them', async () => {
    const env = { TENTERHOOK_HOME: join(directory, 'elsewhere') }
    const said = async (cwd: string) => (await tenterhook(['events', 'tail'], { env, cwd })).err
    expect(await said(directory)).toContain('start it with `tenterhook up`')
    expect(await said(root)).toContain('start it with `npx tenterhook up`')
    expect(await said(join(root, 'docs'))).toContain('start it with `npx tenterhook up`')
  })

  it('with another’s token says so', async () => {
    const { code, err } = await tenterhook(['events', 'get', 'evt_1'], {
      env: { TENTERHOOK_ADMIN_TOKEN: 'not-the-token-at-all' },
    })
    expect({ code, err }).toEqual({
      code: 1,
      err: expect.stringMatching(
        /^tenterhook: the console at \S+ does not take the admin token of TENTERHOOK_ADMIN_TOKEN: [^\n]*\n$/,
      ),
    })
  })

  it('knows its version and its commands', async () => {
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
    expect(await tenterhook(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' })
    expect((await tenterhook(['aply'])).err).toContain('(Did you mean apply?)')
    const help = (await tenterhook(['--help'])).out
    for (const name of [
      'up',
      'apply',
      'diff',
      'trigger',
      'events',
      'replay',
      'retry',
      'cancel',
      'destinations',
      'pause',
      'resume',
      'doctor',
      'migrate',
      'token',
      'keys',
    ])
      expect(help).toMatch(new RegExp(`^ {2}${name}\\b`, 'm'))
  })

  it('token reset gives a new one that counts at once, and ends the old', async () => {
    const old = await readAdminToken(home)
    const { code, out, err } = await tenterhook(['token', 'reset'])
    const token = await readAdminToken(home)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toContain(`: ${token}\n`)
    expect(token).not.toBe(old)
    expect((await stat(join(home, 'admin-token'))).mode & 0o777).toBe(0o600)
    const answers = [old, token].map(async (bearer) => {
      const response = await fetch(`${running.state.consoleUrl}/v1/sources`, {
        headers: { Authorization: `Bearer ${bearer}` },
      })
      return response.status
    })
    expect(await Promise.all(answers)).toEqual([401, 200])
    expect((await tenterhook(['doctor'])).out).toMatch(/^ok {4}people/m)
  })

  it('keys are rotated while nothing runs, and then re-encrypt what there is', async () => {
    expect(await tenterhook(['keys', 'rotate'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('stop it first'),
    })
    expect(await running.stop()).toBe(0)
    expect((await tenterhook(['diff'])).err).toContain('nothing runs in')
    expect(await tenterhook(['keys', 'rotate'])).toMatchObject({
      code: 0,
      out: expect.stringContaining('sealed with k2'),
    })

    running = await startUp('--no-demo')
    expect(running.state.demoUrl).toBeUndefined()
    // Without the demo its destinations stand where the port was wished: here at 0.
    expect(await running.said()).toContain(`${demoFile}: changed 7 destinations`)
    expect((await tenterhook(['trigger', 'github.push'])).code).toBe(0)
    const reEncrypted = await tenterhook(['keys', 're-encrypt'])
    expect(reEncrypted).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^7 secrets are sealed with k2; \d of them were not before\n/),
    })
    expect((await tenterhook(['trigger', 'github.push'])).code).toBe(0)
    expect((await tenterhook(['doctor'])).out).toMatch(/^ok {4}keys {8}7 stored secrets, all sealed with k2$/m)
  })
})

/** The event whose delivery the demo refused at first. */
async function firstCrmEvent(): Promise<string> {
  const refused = (await received()).find(({ path, status }) => path === '/crm' && status === 503)
  return ((await api(`/deliveries/${String(refused?.headers['webhook-id'])}`)) as { eventId: string }).eventId
}
