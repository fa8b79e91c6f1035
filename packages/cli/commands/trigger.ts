import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { httpUrl } from '@tenterhook/lifecycle/variables'
import type { HeaderPairs } from '@tenterhook/schemas/headers'
import { readConfig, type Source } from '@tenterhook/store/config'
import { Command, InvalidArgumentError } from 'commander'
import { request } from 'undici'
import { readState } from '../local/home.ts'
import { systemCode } from '../local/setup-error.ts'
import { CommandError } from './command-error.ts'
import { causeOf } from './console-client.ts'
import { readVariable, withStore } from './database.ts'
import { printable, shortened } from './printable.ts'
import type { Surroundings } from './surroundings.ts'
import {
  buildSample,
  chooseSource,
  sampleLines,
  signSample,
  type Data,
  type SignedRequest,
  type Wanted,
} from './trigger-request.ts'

type Flags = {
  source?: string
  badSignature?: boolean
  stale?: boolean
  duplicate?: boolean
  count: number
  data?: string
  header?: HeaderPairs
}

interface Answer {
  status: number
  body: string
  /** Of an accepted event, or of the first one where this is a duplicate. */
  eventId: string | undefined
  duplicate: boolean
}

const countMax = 1_000
const requestTimeoutMs = 15_000
const answerCharsMax = 2_000

export function triggerCommand(surroundings: Surroundings): Command {
  return new Command('trigger')
    .description('send a correctly signed request to a source, as its provider would')
    .argument('<provider.type>', 'what to send, such as stripe.payment_intent.succeeded')
    .option('--source <name>', 'where to (the source called like the provider, else the one that verifies as it)')
    .option('--bad-signature', 'sign with another secret')
    .option('--stale', 'sign with a timestamp too old to be accepted')
    .option('--duplicate', 'send the same request twice')
    .option('--count <n>', `send that many events, at most ${countMax}`, parseCount, 1)
    .option('--data <json|@file>', "fields to merge into the sample's body, or a file to send in its place")
    .option('--header <name:value>', 'a header to add or replace', collectHeader)
    .addHelpText(
      'after',
      () => `\nWhat there is to send:\n${sampleLines()
        .map((line) => `  ${line}`)
        .join('\n')}\n
A refusal is what --bad-signature and --stale ask for: with them the exit code is 0 when the request is refused.`,
    )
    .action(async (name: string, flags: Flags) => {
      const forgery = forgeryOf(flags)
      if (flags.duplicate && flags.count > 1)
        throw new CommandError('bad_argument', '--duplicate and --count are for two different things: give one of them')
      const wanted: Wanted = {
        name,
        forgery,
        data: await readData(flags.data, surroundings),
        headers: flags.header ?? [],
      }
      const { nowMs } = surroundings
      const build = (id: string) => buildSample(wanted, id, nowMs())
      build('') // what is wrong with the arguments is told before anything is looked for
      const origins = await findOrigins(surroundings)
      const config = await withStore(surroundings, ({ store, keys }) => readConfig(store.durable, keys))
      const source = chooseSource(config.sources, name, flags.source)

      const expected = forgery === 'none' ? isAccepted : isRefused
      let unexpected = 0
      for (let sent = 0; sent < flags.count; sent++) {
        const id = surroundings.uniqueId()
        const signed = signSample(source, build(id), { origin: origins.signed, forgery, id, nowMs: nowMs() })
        if (sent === 0) surroundings.out(describeRequest(signed, name, source))
        const answers = [await send(signed, origins)]
        if (flags.duplicate) answers.push(await send(signed, origins))
        for (const answer of answers) {
          surroundings.out(`${answer.status}  ${shortened(printable(answer.body), answerCharsMax)}`)
          if (!expected(answer)) unexpected += 1
        }
        const words = flags.count === 1 ? describeOutcome(answers, source, expected, surroundings) : undefined
        if (words !== undefined) surroundings.out(words)
      }
      if (flags.count > 1) surroundings.out(`${flags.count - unexpected} of ${flags.count} answered as expected`)
      if (unexpected > 0) surroundings.exitWith(1)
    })
}

interface Origins {
  /** Where ingest is reached. */
  reached: string
  /** Under which URL senders know it: what URL-signing schemes sign. */
  signed: string
}

async function findOrigins({ env, home, program }: Surroundings): Promise<Origins> {
  const given = readVariable(
    { TENTERHOOK_INGEST_URL: httpUrl.optional(), TENTERHOOK_PUBLIC_URL: httpUrl.optional() },
    env,
  )
  const reached = given.TENTERHOOK_INGEST_URL ?? (await readState(home))?.ingestUrl
  if (reached === undefined) {
    throw new CommandError(
      'not_running',
      `nothing runs in ${home}: start it with \`${program} up\`, or set TENTERHOOK_INGEST_URL`,
    )
  }
  const origin = (url: string) => url.replace(/\/+$/, '')
  return { reached: origin(reached), signed: origin(given.TENTERHOOK_PUBLIC_URL ?? reached) }
}

async function send({ method, url, headers, body }: SignedRequest, { reached, signed }: Origins): Promise<Answer> {
  try {
    // Not fetch, which adds a browser's headers to what a provider would send.
    const response = await request(reached + url.slice(signed.length), {
      method,
      headers: [...headers.flat(), 'User-Agent', 'tenterhook-trigger'],
      body,
      signal: AbortSignal.timeout(requestTimeoutMs),
    })
    const text = await response.body.text()
    return { status: response.statusCode, body: text, ...readAcceptance(text) }
  } catch (error) {
    throw new CommandError('ingest_unreachable', `ingest at ${reached} does not answer (${causeOf(error)})`, {
      cause: error,
    })
  }
}

function readAcceptance(text: string): Pick<Answer, 'eventId' | 'duplicate'> {
  const eventId = /"id":"(evt_[0-9a-z]{26})"/.exec(text)?.[1]
  return { eventId, duplicate: eventId !== undefined && /"duplicate":true/.test(text) }
}

const isAccepted = ({ status }: Answer) => status >= 200 && status < 300
const isRefused = ({ status }: Answer) => status >= 400 && status < 500

function describeRequest({ method, url, headers, body }: SignedRequest, name: string, source: Source): string {
  const type = headers.find(([header]) => header.toLowerCase() === 'content-type')?.[1] ?? 'no type'
  const { scheme } = source.spec.verification
  // Where the proof stands in the URL, the URL is a secret.
  return `${method} ${url.split('?', 1)[0]}  ${printable(name)}, ${body.length} bytes of ${printable(type)}, verified by ${scheme}`
}

function describeOutcome(
  answers: readonly Answer[],
  source: Source,
  expected: (answer: Answer) => boolean,
  { program }: Pick<Surroundings, 'program'>,
): string | undefined {
  const [first, second] = answers
  if (!first || !answers.every(expected)) return 'this is not the answer that was expected'
  if (!isAccepted(first)) return 'refused, as it should be'
  if (second) {
    if (second.duplicate && second.eventId === first.eventId)
      return 'the second was recognised as a duplicate of the first'
    return `the second was not recognised as a duplicate: see dedupe of source ${source.spec.name}`
  }
  return first.eventId === undefined
    ? `look at it: ${program} events tail`
    : `look at it: ${program} events get ${first.eventId}`
}

function forgeryOf({ badSignature = false, stale = false }: Flags): Wanted['forgery'] {
  if (badSignature && stale)
    throw new CommandError('bad_argument', 'a request is refused for --bad-signature or for --stale: give one of them')
  return badSignature ? 'bad-signature' : stale ? 'stale' : 'none'
}

async function readData(given: string | undefined, { cwd }: Pick<Surroundings, 'cwd'>): Promise<Data | undefined> {
  if (given === undefined) return undefined
  if (given.startsWith('@')) {
    const path = resolve(cwd, given.slice(1))
    try {
      return { kind: 'exact', body: await readFile(path) }
    } catch (error) {
      throw new CommandError('file_unreadable', `${path} can't be read (${systemCode(error) ?? String(error)})`, {
        cause: error,
      })
    }
  }
  let fields: unknown
  try {
    fields = JSON.parse(given)
  } catch (error) {
    throw new CommandError(
      'bad_argument',
      `--data is not JSON (${error instanceof Error ? error.message : String(error)})`,
      { cause: error },
    )
  }
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields))
    return { kind: 'exact', body: Buffer.from(given) }
  return { kind: 'merged', fields: fields as Record<string, unknown> }
}

function parseCount(text: string): number {
  const count = /^[1-9]\d{0,3}$/.test(text) ? Number(text) : Number.NaN
  if (!(count <= countMax)) throw new InvalidArgumentError(`expected a whole number from 1 to ${countMax}`)
  return count
}

function collectHeader(text: string, before: HeaderPairs = []): HeaderPairs {
  const [, name, value] = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/.exec(text) ?? []
  if (name === undefined || value === undefined) throw new InvalidArgumentError('expected name:value')
  return [...before, [name, value]]
}
