/**
 * The body of a benchmark request: 1 KB of JSON like a GitHub push, whose first fields stand at fixed offsets, so that
 * the sink reads them without parsing. The stamp is the *intended* send time: a generator that is late doesn't flatter.
 */
export type Stamp = { run: number; number: number; intendedUs: number }

export const bodyBytes = 1_024

const head = '{"run":"0000","number":"0000000000","intendedUs":"0000000000000000",'
const runAt = offsetAfter('"run":"')
const numberAt = offsetAfter('"number":"')
const intendedAt = offsetAfter('"intendedUs":"')
const digits = { run: 4, number: 10, intendedUs: 16 }

const template = (() => {
  const rest = `"ref":"refs/heads/main","forced":false,"repository":{"id":4711,"full_name":"acme/shop","private":true},"pusher":{"name":"ada"},"commits":[{"id":"6dcb09b5b57875f334f61aebed695e2e4193db5e","message":"`
  const end = '"}]}'
  return Buffer.from(head + rest + 'x'.repeat(bodyBytes - head.length - rest.length - end.length) + end)
})()

export function stampedBody(stamp: Stamp): Buffer {
  const body = Buffer.from(template)
  body.write(String(stamp.run).padStart(digits.run, '0'), runAt, 'latin1')
  body.write(String(stamp.number).padStart(digits.number, '0'), numberAt, 'latin1')
  body.write(String(stamp.intendedUs).padStart(digits.intendedUs, '0'), intendedAt, 'latin1')
  return body
}

/** Undefined for a body that isn't ours or whose head is not there whole. */
export function readStamp(body: Buffer): Stamp | undefined {
  if (body.length < head.length || body.toString('latin1', 0, runAt) !== head.slice(0, runAt)) return undefined
  const field = (at: number, length: number) => Number(body.toString('latin1', at, at + length))
  const stamp = {
    run: field(runAt, digits.run),
    number: field(numberAt, digits.number),
    intendedUs: field(intendedAt, digits.intendedUs),
  }
  return Object.values(stamp).every(Number.isSafeInteger) ? stamp : undefined
}

function offsetAfter(key: string): number {
  return head.indexOf(key) + key.length
}
