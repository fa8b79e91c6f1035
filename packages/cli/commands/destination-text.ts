import type { Destination } from './api-shapes.ts'
import { printable } from './printable.ts'

const heading = ['destination', 'waiting', 'admitted', 'health']

/** A table of destinations for people, by name. */
export function destinationLines(destinations: readonly Destination[]): string[] {
  if (destinations.length === 0) return ['there is no destination']
  const rows = destinations
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, paused, pauseReason, health }) => [
      name,
      `${health.waiting}${health.moreWaiting ? '+' : ''}`,
      `${health.admitted} of ${health.window}`,
      healthWords({ paused, pauseReason, health }),
    ])
  const widths = heading.map((word, column) => Math.max(...[heading, ...rows].map((row) => row[column]?.length ?? 0)))
  return [heading, ...rows].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** `breaker open until 13:20:32.636Z: 12 failures in a row since 2026-01-31T09:30:00.000Z`. */
export function healthWords({
  paused,
  pauseReason,
  health,
}: Pick<Destination, 'paused' | 'pauseReason' | 'health'>): string {
  const { state, waitsUntil, failingSince, failuresInRow, slowUntil } = health
  const failing =
    failuresInRow === 0
      ? []
      : [
          `${failuresInRow} ${failuresInRow === 1 ? 'failure' : 'failures in a row'} since ${failingSince ?? 'long ago'}`,
        ]
  const slow = slowUntil === null ? [] : [`slow until ${slowUntil.slice(11)}`]
  if (paused) return withWhy('paused', [printable(pauseReason ?? ''), ...failing])
  if (state === 'open') return withWhy(`breaker open until ${waitsUntil?.slice(11) ?? 'later'}`, failing)
  if (state === 'half_open') return withWhy('breaker half open, one delivery tries it', failing)
  return [...failing, ...slow].join('; ') || 'well'
}

function withWhy(what: string, reasons: readonly string[]): string {
  const given = reasons.filter((reason) => reason !== '')
  return given.length === 0 ? what : `${what}: ${given.join('; ')}`
}
