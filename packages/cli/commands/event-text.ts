import type { Attempt, DeliverySummary, EventDetail, EventSummary, Mismatch, Reason } from './api-shapes.ts'
import { printable, shortened } from './printable.ts'

/** Events and deliveries as lines for people. Whatever a stranger sent is made printable. */

const valueCharsMax = 200
const bodyCharsMax = 4_000
const hexBytesMax = 256
const hexBytesPerLine = 16

/** `13:20:32.636  evt_…  stripe  payment_intent.succeeded  361 B  → accounting delivered, crm retrying`. */
export function eventLine(event: EventSummary, deliveries: readonly DeliverySummary[] | undefined): string {
  const { receivedAt, id, source, type, bodyBytes } = event
  const parts = [receivedAt.slice(11, 24), id, source.name ?? 'no source', printable(type ?? '-'), `${bodyBytes} B`]
  return [...parts, outcomeOf(event, deliveries)].join('  ')
}

function outcomeOf({ state }: EventSummary, deliveries: readonly DeliverySummary[] | undefined): string {
  if (state === 'accepted') return '→ not routed yet'
  if (state === 'unroutable') return '→ unroutable'
  if (deliveries === undefined) return '→ routed'
  if (deliveries.length === 0) return '→ no connection matched'
  return `→ ${inOrder(deliveries).map(deliveryWords).join(', ')}`
}

function inOrder<Delivery extends DeliverySummary>(deliveries: readonly Delivery[]): Delivery[] {
  const name = ({ connection, id }: DeliverySummary) => `${connection.name ?? ''} ${id}`
  return deliveries.toSorted((a, b) => (name(a) < name(b) ? -1 : 1))
}

/** `crm retrying after 1 failure`. */
export function deliveryWords(delivery: DeliverySummary): string {
  const { destination, state, failures, deadReason, held, heldBy, replayOf } = delivery
  const words = [destination.name ?? 'a deleted destination', state]
  if (deadReason !== null) words.push(`(${deadReason})`)
  else if (held) words.push(`(held: ${heldBy?.kind.replaceAll('_', ' ') ?? 'its destination waits'})`)
  else if (failures > 0) words.push(`after ${failures} ${failures === 1 ? 'failure' : 'failures'}`)
  if (replayOf !== null) words.push('(a replay)')
  return words.join(' ')
}

/** All that is known of one event. `histories` holds the attempts of deliveries by their ids, latest first. */
export function eventText(event: EventDetail, histories: ReadonlyMap<string, readonly Attempt[]>): string[] {
  const target = `/in/${event.source.name ?? '?'}${event.path}${event.query === '' ? '' : `?${event.query}`}`
  const lines = [
    `${event.id}  ${event.source.name ?? 'no source'}  ${printable(event.type ?? 'no type')}`,
    `received    ${event.receivedAt} from ${event.remoteAddress ?? 'an unknown address'}: ${event.method} ${printable(target)}`,
    `state       ${stateWords(event)}`,
    ...(event.traceId === null ? [] : [`trace       ${event.traceId}`]),
    ...(event.duplicates.length === 0 ? [] : [`duplicates  ${event.duplicates.length}`]),
    'headers',
    ...event.headers.map(([name, value]) => `  ${printable(name)}: ${shortened(printable(value), valueCharsMax)}`),
    `body, ${event.bodyBytes} bytes`,
    ...bodyLines(event).map((line) => `  ${line}`),
    'deliveries',
  ]
  for (const delivery of inOrder(event.deliveries)) {
    lines.push(`  ${delivery.connection.name ?? 'a deleted connection'} → ${deliveryWords(delivery)}  ${delivery.id}`)
    const history = (histories.get(delivery.id) ?? []).toReversed()
    lines.push(...history.map((attempt) => `    ${attemptWords(attempt)}`))
    if (delivery.dueAt !== null) lines.push(`    next at ${delivery.dueAt}`)
  }
  if (event.deliveries.length === 0) lines.push('  none')
  if (event.notMatched !== null && event.notMatched.length > 0)
    lines.push('not matched', ...event.notMatched.map((mismatch) => `  ${mismatchWords(mismatch)}`))
  return lines
}

function stateWords({ state, receivedAt, routedAt, configVersion }: EventDetail): string {
  if (routedAt === null) return state
  const tookMs = Date.parse(routedAt) - Date.parse(receivedAt)
  return `${state} ${tookMs} ms later${configVersion === null ? '' : `, by configuration ${configVersion}`}`
}

function attemptWords({ number, startedAt, status, outcome, code, detail, timings }: Attempt): string {
  const what = status ?? [code, detail].filter((word) => word !== null).join(': ')
  const took = timings?.totalMs === undefined ? '' : ` in ${Math.round(timings.totalMs)} ms`
  return `attempt ${number}  ${startedAt.slice(11, 24)}  ${outcome}  ${printable(String(what))}${took}`
}

/** `lead-to-campaigns: body.score is 35; expected $gt 80`. */
export function mismatchWords({ connection, why, reason }: Mismatch): string {
  if (reason === undefined) return `${connection}: ${why}`
  return `${connection}: ${reasonWords(reason)}`
}

function reasonWords({ path, operator, expected, actual, hint }: Reason): string {
  const shown = (value: unknown) => shortened(printable(JSON.stringify(value) ?? 'absent'), valueCharsMax)
  const found = actual === undefined ? 'is absent' : `is ${shown(actual)}`
  return `${path} ${found}; expected ${operator} ${shown(expected)}${hint === undefined ? '' : ` (${printable(hint)})`}`
}

function bodyLines({ bodyText, bodyBase64, bodyBytes, id }: EventDetail): string[] {
  if (bodyBytes === 0) return ['(none)']
  if (bodyText !== null) return shortened(printable(bodyText, { lines: true }), bodyCharsMax).split('\n')
  if (bodyBase64 === null) return [`(too large to be shown here: \`events get ${id} --body\` gives it to a file)`]
  return hexLines(Buffer.from(bodyBase64, 'base64'))
}

/** Offset, hex, and what of it is visible ASCII, as `hexdump -C` has it. */
export function hexLines(bytes: Buffer): string[] {
  const lines: string[] = []
  for (let at = 0; at < Math.min(bytes.length, hexBytesMax); at += hexBytesPerLine) {
    const row = bytes.subarray(at, Math.min(at + hexBytesPerLine, hexBytesMax))
    const hex = row.toString('hex').replace(/..(?!$)/g, '$& ')
    const text = row.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(hexBytesPerLine * 3 - 1)}  |${text}|`)
  }
  if (bytes.length > hexBytesMax) lines.push(`… ${bytes.length - hexBytesMax} more bytes`)
  return lines
}
