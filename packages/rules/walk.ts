import type { Path, Segment } from './path.ts'

/**
 * Whether any value that a path leads to passes the test, with MongoDB's rules for lists: at a list the walk goes on
 * into each element that is an object and, where the key is a number, into that element; a list directly inside a list
 * is reached by its number only. A value that is absent (or undefined) is never tested.
 *
 * Each node of the event is tested at most once per part of the path, so the cost is bounded by their product.
 */
export function someValue(start: unknown, path: Path, test: (value: unknown) => boolean): boolean {
  return walk(start, path.segments, 0, test)
}

function walk(start: unknown, segments: readonly Segment[], from: number, test: (value: unknown) => boolean): boolean {
  let node = start
  for (let at = from; at < segments.length; at += 1) {
    if (Array.isArray(node)) return walkList(node, segments, at, test)
    const segment = segments[at]
    if (!segment || !isObject(node) || !Object.hasOwn(node, segment.key)) return false
    node = node[segment.key]
  }
  return node !== undefined && test(node)
}

function walkList(
  list: readonly unknown[],
  segments: readonly Segment[],
  at: number,
  test: (value: unknown) => boolean,
): boolean {
  const index = segments[at]?.index
  if (index !== undefined && walk(list[index], segments, at + 1, test)) return true
  for (const element of list) if (isObject(element) && walk(element, segments, at, test)) return true
  return false
}

/** The one value at a path, list elements by number only; undefined when there is none. For keys, which must not be a choice among several. */
export function valueAt(start: unknown, path: Path): unknown {
  let node = start
  for (const { key, index } of path.segments) {
    if (Array.isArray(node)) node = index === undefined ? undefined : node[index]
    else if (isObject(node) && Object.hasOwn(node, key)) node = node[key]
    else return undefined
  }
  return node
}

/** A JSON object: not null, not a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
