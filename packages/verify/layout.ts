import type { Layout } from './row.ts'

/** More items than a rotation ever needs; a longer header is refused, not searched. */
const itemsMax = 32

export interface Signatures {
  /** By the version that names their algorithm; '' where a header has only one kind. */
  of(version: string): readonly string[]
  timestamp?: string
}

/** The signatures (and the timestamp) of one header value; undefined when it isn't written as the layout says. */
export function readLayout(value: string, layout: Layout): Signatures | undefined {
  switch (layout.kind) {
    case 'plain': {
      if (!value.startsWith(layout.prefix) || value.length === layout.prefix.length) return undefined
      const signatures = [value.slice(layout.prefix.length)]
      return { of: () => signatures }
    }
    case 'fields':
      return readFields(value, layout)
    case 'versions':
      return readVersions(value)
  }
}

/** A signature header's value, the way the provider writes it. */
export function writeLayout(layout: Layout, signature: string, timestamp: string): string {
  switch (layout.kind) {
    case 'plain':
      return layout.prefix + signature
    case 'fields':
      return `${layout.timestamp === undefined ? '' : `${layout.timestamp}=${timestamp}${layout.separator}`}${layout.signature}=${signature}`
    case 'versions':
      return `v1,${signature}`
  }
}

function readFields(value: string, layout: Extract<Layout, { kind: 'fields' }>): Signatures | undefined {
  const items = value.split(layout.separator, itemsMax + 1)
  if (items.length > itemsMax) return undefined
  const signatures: string[] = []
  let timestamp: string | undefined
  for (const item of items) {
    const equals = item.indexOf('=')
    if (equals === -1) return undefined
    const name = item.slice(0, equals).trim()
    const field = item.slice(equals + 1).trim()
    if (name === layout.signature) signatures.push(field)
    else if (name === layout.timestamp) {
      // Two timestamps: one parser takes the first, another the last, so a stale one could hide behind a fresh one.
      if (timestamp !== undefined) return undefined
      timestamp = field
    }
  }
  if (signatures.length === 0) return undefined
  const found = { of: () => signatures }
  return timestamp === undefined ? found : { ...found, timestamp }
}

function readVersions(value: string): Signatures | undefined {
  const items = value.split(' ', itemsMax + 1)
  if (items.length > itemsMax) return undefined
  const byVersion = new Map<string, string[]>()
  for (const item of items) {
    const comma = item.indexOf(',')
    // Versions we don't know are passed over, as the specification asks; a bare signature has none and counts for nothing.
    if (comma === -1) continue
    const version = item.slice(0, comma)
    const list = byVersion.get(version) ?? []
    list.push(item.slice(comma + 1))
    byVersion.set(version, list)
  }
  return byVersion.size === 0 ? undefined : { of: (version) => byVersion.get(version) ?? [] }
}
