/**
 * A DNS server for tests: UDP on 127.0.0.1, A and AAAA only. What it answers is a function of the question and of how
 * often it was asked, so that names can rebind, fail, fall silent and come back.
 */
import { createSocket } from 'node:dgram'
import { isIP } from 'node:net'

export type DnsQuestion = {
  /** Lower case, without a dot at the end. */
  name: string
  type: 'A' | 'AAAA'
  /** 1 for the first question of this name and type. */
  nth: number
}

export type DnsAnswer =
  /** Those of the question's family are answered; none of them is "no data", which is not "no such name". */
  { addresses: readonly string[]; ttlSeconds?: number } | { failure: 'nxdomain' | 'servfail' | 'refused' } | 'silence'

export type DnsServer = {
  /** `127.0.0.1:port`, as `dns.setServers` takes it. */
  address: string
  /** The questions in the order they came, answered or not. */
  questions(name?: string): readonly DnsQuestion[]
  stop(): Promise<void>
}

const rcodes = { nxdomain: 3, servfail: 2, refused: 5 } as const
const headerBytes = 12

export async function startDnsServer(answerFor: (question: DnsQuestion) => DnsAnswer): Promise<DnsServer> {
  const asked: DnsQuestion[] = []
  const socket = createSocket('udp4')

  socket.on('message', (query, sender) => {
    const { name, type, end } = readQuestion(query)
    if (type === undefined) return
    const nth = asked.filter((earlier) => earlier.name === name && earlier.type === type).length + 1
    const question = { name, type, nth }
    asked.push(question)
    const answer = answerFor(question)
    if (answer !== 'silence') socket.send(reply(query.subarray(0, end), type, answer), sender.port, sender.address)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, '127.0.0.1', resolve)
  })
  let stopped: Promise<void> | undefined

  return {
    address: `127.0.0.1:${socket.address().port}`,
    questions: (name) => (name === undefined ? [...asked] : asked.filter((question) => question.name === name)),
    stop() {
      stopped ??= new Promise((resolve) => socket.close(() => resolve()))
      return stopped
    },
  }
}

/** RFC 1035 §4.1.2. `end` is where the question ends: what follows (EDNS) is not echoed. */
function readQuestion(query: Buffer): { name: string; type: 'A' | 'AAAA' | undefined; end: number } {
  const labels: string[] = []
  let at = headerBytes
  while (query[at]) {
    const length = query[at] ?? 0
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  const code = query.readUInt16BE(at + 1)
  return {
    name: labels.join('.').toLowerCase(),
    type: code === 1 ? 'A' : code === 28 ? 'AAAA' : undefined,
    end: at + 5,
  }
}

function reply(question: Buffer, type: 'A' | 'AAAA', answer: Exclude<DnsAnswer, 'silence'>): Buffer {
  const family = type === 'A' ? 4 : 6
  const addresses = 'addresses' in answer ? answer.addresses.filter((address) => isIP(address) === family) : []
  const header = Buffer.from(question)
  header.writeUInt16BE(0x8180 | ('failure' in answer ? rcodes[answer.failure] : 0), 2) // a response, recursion done
  header.writeUInt16BE(addresses.length, 6)
  header.writeUInt32BE(0, 8) // no authority, nothing additional: the question's EDNS record was cut off
  const records = addresses.map((address) =>
    record(type, address, 'addresses' in answer ? (answer.ttlSeconds ?? 60) : 0),
  )
  return Buffer.concat([header, ...records])
}

/** RFC 1035 §4.1.3, RFC 3596: the name is a pointer to the question. */
function record(type: 'A' | 'AAAA', address: string, ttlSeconds: number): Buffer {
  const data = type === 'A' ? Buffer.from(address.split('.').map(Number)) : ipv6Bytes(address)
  const head = Buffer.alloc(12)
  head.writeUInt16BE(0xc00c, 0)
  head.writeUInt16BE(type === 'A' ? 1 : 28, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt32BE(ttlSeconds, 6)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

/** The URL parser writes IPv6 addresses in hex groups only; the gap is filled here. */
function ipv6Bytes(address: string): Buffer {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}
