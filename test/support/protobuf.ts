/**
 * One field of a protobuf message: bytes (texts, messages, packed lists) or an integer (varint, fixed32, fixed64, as
 * it stands, unsigned). https://protobuf.dev/programming-guides/encoding/
 */
export type Field = { number: number } & ({ kind: 'bytes'; bytes: Buffer } | { kind: 'integer'; integer: bigint })

/** The fields of a message in their order; throws a RangeError when it is cut off or malformed. */
export function readFields(message: Buffer): Field[] {
  const fields: Field[] = []
  let at = 0

  function varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message.readUInt8(at)
      at += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new RangeError(`varint longer than ten bytes before byte ${at}`)
  }

  while (at < message.length) {
    const tag = Number(varint())
    const number = tag >>> 3
    switch (tag & 7) {
      case 0:
        fields.push({ number, kind: 'integer', integer: varint() })
        break
      case 1:
        fields.push({ number, kind: 'integer', integer: message.readBigUInt64LE(at) })
        at += 8
        break
      case 2: {
        const length = Number(varint())
        if (at + length > message.length) throw new RangeError(`field ${number} is cut off`)
        fields.push({ number, kind: 'bytes', bytes: message.subarray(at, at + length) })
        at += length
        break
      }
      case 5:
        fields.push({ number, kind: 'integer', integer: BigInt(message.readUInt32LE(at)) })
        at += 4
        break
      default:
        throw new RangeError(`wire type ${tag & 7} before byte ${at}`)
    }
  }
  return fields
}
