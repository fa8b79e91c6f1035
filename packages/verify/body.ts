/**
 * Looks into JSON and form bodies for ids, types and in-body timestamps. Lazy (nothing is parsed until the first
 * path), bounded, and it never throws: what can't be read is absent.
 */
const parseBytesMax = 1_048_576
/** Items one `*` may stand for, and values one path may give. */
const itemsMax = 1_000
/** A megabyte of `a&a&a…` is half a million fields, which no provider sends. */
export const pairsMax = 2_000

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/**
 * A function from path to the strings and numbers found there. Steps are joined by `.`; `*` stands for every item of
 * an array. All of them must lead to a value, or the path gives undefined: a key made of some items' ids would call
 * two different batches the same. In a form body the first step is the field's name; a field that holds JSON is entered.
 */
export function bodyReader(contentType: string | undefined, body: Buffer): (path: string) => string[] | undefined {
  let root: Json | undefined
  let parsed = false
  const form = mediaType(contentType) === 'application/x-www-form-urlencoded'
  return (path) => {
    if (!parsed) {
      parsed = true
      if (body.length <= parseBytesMax) root = form ? formFields(body) : parseJson(body.toString('utf8'))
    }
    if (root === undefined) return undefined
    if (form && isRecord(root)) return atFormPath(root, path)
    return values(root, path.split('.'))
  }
}

function atFormPath(fields: { [key: string]: Json }, path: string): string[] | undefined {
  if (Object.hasOwn(fields, path)) return values(fields[path] ?? null, [])
  const [name = '', ...rest] = path.split('.')
  const field = Object.hasOwn(fields, name) ? fields[name] : undefined
  if (typeof field !== 'string' || rest.length === 0) return undefined
  const inner = parseJson(field)
  return inner === undefined ? undefined : values(inner, rest)
}

function values(root: Json, steps: readonly string[]): string[] | undefined {
  let level: Json[] = [root]
  for (const step of steps) {
    const next: Json[] = []
    for (const node of level) {
      if (step === '*') {
        if (!Array.isArray(node) || node.length === 0 || next.length + node.length > itemsMax) return undefined
        next.push(...node)
      } else {
        const child = childOf(node, step)
        if (child === undefined) return undefined
        next.push(child)
      }
    }
    level = next
  }
  const found: string[] = []
  for (const node of level) {
    const text = scalar(node)
    if (text === undefined) return undefined
    found.push(text)
  }
  return found
}

function childOf(node: Json, step: string): Json | undefined {
  if (Array.isArray(node)) return /^(?:0|[1-9]\d{0,5})$/.test(step) ? node[Number(step)] : undefined
  return isRecord(node) && Object.hasOwn(node, step) ? node[step] : undefined
}

/** Integers past 2^53 were rounded by the parser: two different ids would become one, so they count as absent. */
function scalar(node: Json): string | undefined {
  if (typeof node === 'string') return node
  if (typeof node === 'number') return Number.isInteger(node) && !Number.isSafeInteger(node) ? undefined : String(node)
  return undefined
}

function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text) as Json
  } catch {
    // Not JSON: nothing can be read from it, which is an answer, not an error.
    return undefined
  }
}

/** Fields that stand once; a repeated field has no one value and is left out. */
function formFields(body: Buffer): { [key: string]: Json } | undefined {
  if (countPairs(body) > pairsMax) return undefined
  const fields: { [key: string]: Json } = Object.create(null)
  const repeated = new Set<string>()
  for (const [name, value] of new URLSearchParams(body.toString('utf8'))) {
    if (Object.hasOwn(fields, name)) repeated.add(name)
    fields[name] = value
  }
  for (const name of repeated) delete fields[name]
  return fields
}

export function countPairs(body: Buffer): number {
  let pairs = 1
  for (let at = body.indexOf(0x26); at !== -1 && pairs <= pairsMax; at = body.indexOf(0x26, at + 1)) pairs++
  return pairs
}

function isRecord(node: Json): node is { [key: string]: Json } {
  return typeof node === 'object' && node !== null && !Array.isArray(node)
}

function mediaType(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}
