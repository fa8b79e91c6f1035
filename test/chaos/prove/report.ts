import type { Options } from './options.ts'
import { faultKinds, kindNames, postgresKillKinds, wipeKinds } from './plan.ts'
import type { FaultKind } from './plan.ts'
import type { Round } from './round.ts'

/** What a run has shown, in Markdown. */
export function renderReport({
  rounds,
  options,
  machine,
}: {
  rounds: readonly Round[]
  options: Options
  machine: string
}): string {
  const sum = (of: (round: Round) => number) => rounds.reduce((total, round) => total + of(round), 0)
  const most = (of: (round: Round) => number) => Math.max(0, ...rounds.map(of))
  const faults = rounds.flatMap((round) => round.faults)
  const countOf = (kinds: readonly FaultKind[]) => faults.filter(({ kind }) => kinds.includes(kind)).length
  const violations = rounds.flatMap((round) => round.violations)
  const deliveries = sum(({ figures }) => figures.deliveries)
  const repeats = sum(({ figures }) => figures.repeats)
  const skipped = new Map(rounds.flatMap((round) => [...round.skipped]))
  const peak = (of: (sample: Round['samples'][number]) => number) =>
    most(({ samples }) => Math.max(0, ...samples.map(of)))
  const command = `npm run prove -- --kills ${options.kills} --wipes ${options.wipes} --postgres-kills ${options.postgresKills} --events ${options.events} --minutes ${round1((options.roundMs * options.rounds) / 60_000)} --rate ${options.perSecond} --seed ${options.seed}`

  return [
    '# Proof',
    '',
    `**${violations.length === 0 ? 'Nothing accepted was lost; every invariant held.' : `${violations.length} VIOLATIONS`}**`,
    '',
    '```',
    command,
    '```',
    '',
    ...table([
      ['', ''],
      ['machine', machine],
      ['seed', String(options.seed)],
      ['rounds (seeds)', rounds.map(({ seed }) => seed).join(', ')],
      ['lasted', `${round1(sum(({ lastedMs }) => lastedMs) / 60_000)} min`],
      ['events sent', count(sum(({ figures }) => figures.sent))],
      ['events accepted (2xx)', count(sum(({ figures }) => figures.accepted))],
      ['accepted and lost', count(sum(({ figures }) => figures.lost))],
      ['deliveries', count(deliveries)],
      ['duplicates', `${count(repeats)} (${count(deliveries === 0 ? 0 : (repeats / deliveries) * 1e6)} per million)`],
      ['dead letters (sick destinations)', count(sum(({ figures }) => figures.dead))],
      ['still waiting for a sick destination', count(sum(({ figures }) => figures.waiting))],
      ['faults', count(faults.length)],
      ['of these broke off', count(sum(({ failed }) => failed.length))],
      ['kills of services', count(countOf(['kill']))],
      ['kills of Postgres', count(countOf(postgresKillKinds))],
      ['Redis wiped or rewound', count(countOf(wipeKinds))],
      ['starts of Postgres by its supervisor', count(sum(({ postgresRestarts }) => postgresRestarts))],
      ['services that ended by themselves', count(sum(({ deaths }) => deaths.length))],
      ['drained after the last fault, longest', `${round1(most(({ drainMs }) => drainMs ?? Infinity) / 1_000)} s`],
      ['most memory of one service', `${count(peak(({ rssMb }) => Math.max(0, ...Object.values(rssMb))))} MB`],
      [
        'most memory of Redis',
        `${count(peak(({ redisMb }) => redisMb ?? 0))} MB, ${count(peak(({ redisKeys }) => redisKeys ?? 0))} keys`,
      ],
      ['most deliveries admitted at once', count(peak(({ admitted }) => admitted ?? 0))],
    ]),
    '',
    'Recovery, from the end of a fault. Normal again: nine in ten of the events accepted within a second had reached every',
    'healthy destination two seconds later. Last: the last event accepted before the end of the fault had reached them; what',
    'a dead dispatcher had under way waits for its lease (20 s). In order: the same of the destination in strict order, which',
    'both leave out: there, a lost lease holds all later events of its group. Faults overlap, so a recovery may have had the',
    'next fault in it.',
    '',
    ...table([
      ['fault', 'times', 'normal again p50', 'p99', 'last p50', 'p99', 'in order p50', 'p99'],
      ...kindNames.map((kind) => {
        const its = rounds.flatMap((round) => round.recoveries).filter((one) => one.fault.kind === kind)
        return [
          faultKinds[kind].what,
          skipped.get(kind) ?? String(its.length),
          ...shares(its.map(({ normalMs }) => normalMs)),
          ...shares(its.map(({ lastMs }) => lastMs)),
          ...shares(its.map(({ lastOrderedMs }) => lastOrderedMs)),
        ]
      }),
    ]),
    '',
    ...(violations.length === 0
      ? []
      : ['Violations:', '', ...violations.slice(0, 50).map(({ invariant, what }) => `- ${invariant}: ${what}`), '']),
  ].join('\n')
}

function table(rows: string[][]): string[] {
  const [head = [], ...rest] = rows
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rest.map(line)]
}

/** The median and the 99th percentile, in words. */
function shares(took: readonly number[]): [string, string] {
  const sorted = took.toSorted((a, b) => a - b)
  const at = (share: number) => {
    const ms = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
    return ms === undefined ? '-' : `${round1(ms / 1_000)} s`
  }
  return [at(0.5), at(0.99)]
}

const round1 = (value: number) => String(Math.round(value * 10) / 10)
const count = (value: number) => Math.round(value).toLocaleString('en-US')
