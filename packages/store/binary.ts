/**
 * One-dimensional arrays in Postgres's binary format (array_recv: dimensions, null flag, element type, length,
 * lower bound, then each element as length + bytes, −1 for NULL), for parameters too heavy for the text form:
 * a bytea in a text array is hex, twice its size, and quoted again.
 */
const oid = { bytea: 17, text: 25 } as const

export function byteaArray(values: ReadonlyArray<Buffer | null>): Buffer {
  return encode(oid.bytea, values)
}

/** Text values as UTF-8. Postgres refuses NUL in text: callers keep raw bytes in bytea. */
export function textArray(values: ReadonlyArray<string | null>): Buffer {
  return encode(
    oid.text,
    values.map((value) => (value === null ? null : Buffer.from(value, 'utf8'))),
  )
}

function encode(elementType: number, values: ReadonlyArray<Buffer | null>): Buffer {
  if (values.length === 0) {
    const empty = Buffer.alloc(12)
    empty.writeInt32BE(elementType, 8)
    return empty
  }
  let bytes = 20
  for (const value of values) bytes += 4 + (value?.length ?? 0)
  const out = Buffer.allocUnsafe(bytes)
  out.writeInt32BE(1, 0)
  out.writeInt32BE(values.includes(null) ? 1 : 0, 4)
  out.writeInt32BE(elementType, 8)
  out.writeInt32BE(values.length, 12)
  out.writeInt32BE(1, 16)
  let at = 20
  for (const value of values) {
    if (value === null) {
      at = out.writeInt32BE(-1, at)
      continue
    }
    at = out.writeInt32BE(value.length, at)
    at += value.copy(out, at)
  }
  return out
}
