/**
 * What the proof runs over: three sources, five healthy destinations and one for every way of being sick, and which
 * event is wanted where. The last is said here once more, apart from the product's filters, so that a filter that is
 * wrong shows.
 */
import type { ConnectionInput } from '@tenterhook/schemas/connection'
import type { DestinationInput } from '@tenterhook/schemas/destination'
import type { SourceInput } from '@tenterhook/schemas/source'

export const sourceNames = ['hub', 'shop', 'bare'] as const
export type SourceName = (typeof sourceNames)[number]

export const healthyNames = ['signed', 'plain', 'slow', 'even', 'ordered'] as const
export type HealthyName = (typeof healthyNames)[number]

/** How a destination can be sick; each has one of its own. */
export const sicknesses = ['deaf', 'drip', 'endless', 'bomb', 'loop', 'bad-tls', 'reset', 'hang'] as const
export type Sickness = (typeof sicknesses)[number]

/** Read from the body by the filters. */
export type Traits = { readonly source: SourceName; readonly n: number; readonly sick: Sickness | null }

export const signingSecret = 'whsec_dGhlIG5lbWVzaXMgY2FuIG5vdCBzaWduIHRoaXM='

/** Of an attempt at a healthy destination, ample for a busy machine. A lease is this and the product's margin of 15 s. */
export const attemptTimeoutMs = 5_000

/** Odd: every other event, which is what `ordered` wants, is then of every group. */
const groups = 31

/** Longer than any fault: nothing may die because we were away. */
const patient = { schedule: ['500ms', '1s', '1s', '2s', ...Array.from({ length: 40 }, () => '3s')], maxAge: '1h' }
/** Those end as dead letters while the proof still runs. */
const impatient = { schedule: ['1s', '2s'], maxAge: '40s' }

const routes: Record<
  SourceName,
  Partial<Record<HealthyName, { filter: ConnectionInput['filter']; wants: (traits: Traits) => boolean }>>
> = {
  hub: {
    signed: { filter: {}, wants: () => true },
    even: { filter: { 'body.even': true }, wants: ({ n }) => n % 2 === 0 },
    plain: { filter: { 'body.n': { $exists: true } }, wants: () => true },
    slow: { filter: { 'body.n': { $gte: 0 }, 'body.tenth': 0 }, wants: ({ n }) => n % 10 === 0 },
    ordered: { filter: { 'body.even': false }, wants: ({ n }) => n % 2 !== 0 },
  },
  // Its provider signs as we do. Where we don't sign, that signature passes, and with it the provider's own webhook-id.
  shop: {
    signed: { filter: {}, wants: () => true },
    slow: { filter: { 'body.even': { $ne: true } }, wants: ({ n }) => n % 2 !== 0 },
  },
  bare: {
    plain: { filter: { 'body.tenth': { $lt: 8 } }, wants: ({ n }) => n % 10 < 8 },
    slow: { filter: { 'body.tenth': { $in: [3, 7] } }, wants: ({ n }) => n % 10 === 3 || n % 10 === 7 },
    even: { filter: {}, wants: () => true },
  },
}

/** The healthy destinations that the event must reach. */
export function wantedBy(traits: Traits): HealthyName[] {
  return healthyNames.filter((name) => routes[traits.source][name]?.wants(traits))
}

/** In the order of their acceptance, one at a time, are the events of one group delivered to `ordered`. */
export function groupOf(n: number): string {
  return `group-${n % groups}`
}

/** What the filters read, as it stands in an event's body. */
export function bodyFields({ n, sick }: Traits): object {
  return { n, even: n % 2 === 0, tenth: n % 10, group: groupOf(n), sick }
}

export const sources = {
  hub: { verification: { scheme: 'github', secret: 'the hub’s own secret' } },
  shop: { verification: { scheme: 'standard-webhooks', secret: 'whsec_dGhlIHNob3Agc2lnbnMgd2l0aCB0aGlz' } },
  bare: { verification: { scheme: 'none' }, dedupe: { by: { header: 'x-event-key' } } },
} satisfies Record<SourceName, Omit<SourceInput, 'name'>>

/** In the form of a configuration file. `urls` says where each destination listens. */
export function configuration(urls: Record<HealthyName | Sickness, string>): {
  sources: typeof sources
  destinations: Record<string, Omit<DestinationInput, 'name'>>
  connections: Record<string, Omit<ConnectionInput, 'name'>>
} {
  const destinations: Record<string, Omit<DestinationInput, 'name'>> = {}
  const connections: Record<string, Omit<ConnectionInput, 'name'>> = {}
  for (const name of healthyNames)
    destinations[name] = {
      url: urls[name],
      timeout: `${attemptTimeoutMs}ms`,
      ...((name === 'signed' || name === 'slow') && { signing: { secrets: [signingSecret] } }),
    }
  for (const source of sourceNames)
    for (const [name, route] of Object.entries(routes[source]))
      connections[`${source}-to-${name}`] = {
        source,
        destination: name,
        filter: route.filter,
        retry: patient,
        ...(name === 'ordered' && { order: 'body.group' }),
      }
  for (const sickness of sicknesses) {
    destinations[sickness] = { url: urls[sickness], timeout: '1s' }
    connections[`hub-to-${sickness}`] = {
      source: 'hub',
      destination: sickness,
      filter: { 'body.sick': sickness },
      retry: impatient,
    }
  }
  return { sources, destinations, connections }
}
