/**
 * A real OTLP/HTTP collector for tests: `POST /v1/traces` with protobuf, kept as decoded spans. Only as much of the
 * format is read as tests ask about (https://github.com/open-telemetry/opentelemetry-proto, trace/v1/trace.proto);
 * the reader is written from the format's definition, so that it can't share a mistake with the exporter's library.
 */
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { readFields } from './protobuf.ts'
import type { Field } from './protobuf.ts'

export type AttributeValue = string | number | boolean | readonly AttributeValue[]

export type ReceivedSpan = {
  /** Lower-case hex. */
  traceId: string
  spanId: string
  /** Absent for the first span of a trace. */
  parentSpanId: string | undefined
  name: string
  kind: 'unspecified' | 'internal' | 'server' | 'client' | 'producer' | 'consumer'
  /** The resource's `service.name`. */
  service: string
  resource: Readonly<Record<string, AttributeValue>>
  attributes: Readonly<Record<string, AttributeValue>>
  links: readonly { traceId: string; spanId: string }[]
  /** The message of an error status; undefined when the span did not fail. */
  error: string | undefined
  /** Nanoseconds since 1970. */
  startNs: bigint
  endNs: bigint
}

export type OtlpReceiver = {
  /** What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to: `http://127.0.0.1:40123`. */
  url: string
  /** All spans in the order of their arrival, or those of one trace. */
  spans(traceId?: string): readonly ReceivedSpan[]
  /** The headers of each export, names in lower case. */
  exports(): readonly NodeJS.Dict<string | string[]>[]
  /** The status of every answer from now on; spans of a refused export are not kept. */
  answerWith(status: number): void
  stop(): Promise<void>
}

const kinds = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const
const errorStatus = 2n

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const exports: NodeJS.Dict<string | string[]>[] = []
  let status = 200

  const server = createServer((request, response) => {
    readBody(request).then(
      (body) => {
        const known = request.method === 'POST' && request.url === '/v1/traces'
        if (known) exports.push(request.headers)
        if (known && status === 200) {
          const bytes = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body
          spans.push(...decodeTraces(bytes))
        }
        response.writeHead(known ? status : 404, { 'Content-Type': 'application/x-protobuf' })
        response.end()
      },
      () => response.destroy(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: (traceId) => (traceId === undefined ? spans : spans.filter((span) => span.traceId === traceId)),
    exports: () => exports,
    answerWith: (next) => {
      status = next
    },
    stop: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** The spans of an `ExportTraceServiceRequest`. */
export function decodeTraces(request: Buffer): ReceivedSpan[] {
  return bytesOf(readFields(request), 1).flatMap((resourceSpans) => {
    const fields = readFields(resourceSpans)
    const resource = attributesOf(
      bytesOf(fields, 1).flatMap((bytes) => readFields(bytes)),
      1,
    )
    return bytesOf(fields, 2).flatMap((scopeSpans) =>
      bytesOf(readFields(scopeSpans), 2).map((span) => decodeSpan(readFields(span), resource)),
    )
  })
}

function decodeSpan(fields: readonly Field[], resource: Record<string, AttributeValue>): ReceivedSpan {
  const status = bytesOf(fields, 15).flatMap((bytes) => readFields(bytes))
  const parent = hexOf(fields, 4)
  return {
    traceId: hexOf(fields, 1),
    spanId: hexOf(fields, 2),
    parentSpanId: parent === '' ? undefined : parent,
    name: textOf(fields, 5),
    kind: kinds[Number(integerOf(fields, 6))] ?? 'unspecified',
    service: String(resource['service.name'] ?? ''),
    resource,
    attributes: attributesOf(fields, 9),
    links: bytesOf(fields, 13).map((bytes) => {
      const link = readFields(bytes)
      return { traceId: hexOf(link, 1), spanId: hexOf(link, 2) }
    }),
    error: integerOf(status, 3) === errorStatus ? textOf(status, 2) : undefined,
    startNs: integerOf(fields, 7),
    endNs: integerOf(fields, 8),
  }
}

/** The `KeyValue`s in a field. */
function attributesOf(fields: readonly Field[], number: number): Record<string, AttributeValue> {
  return Object.fromEntries(
    bytesOf(fields, number).map((bytes) => {
      const pair = readFields(bytes)
      const value = bytesOf(pair, 2)[0]
      return [textOf(pair, 1), value === undefined ? '' : decodeValue(readFields(value))]
    }),
  )
}

/** An `AnyValue`: text, truth value, integer, double or a list of them. */
function decodeValue(fields: readonly Field[]): AttributeValue {
  const field = fields[0]
  switch (field?.number) {
    case 1:
      return textOf(fields, 1)
    case 2:
      return integerOf(fields, 2) === 1n
    case 3:
      return Number(BigInt.asIntN(64, integerOf(fields, 3)))
    case 4:
      return new Float64Array(new BigUint64Array([integerOf(fields, 4)]).buffer)[0] ?? Number.NaN
    case 5:
      return bytesOf(fields, 5).flatMap((list) =>
        bytesOf(readFields(list), 1).map((value) => decodeValue(readFields(value))),
      )
    default:
      return ''
  }
}

function bytesOf(fields: readonly Field[], number: number): Buffer[] {
  return fields.flatMap((field) => (field.number === number && field.kind === 'bytes' ? [field.bytes] : []))
}

function hexOf(fields: readonly Field[], number: number): string {
  return bytesOf(fields, number).at(-1)?.toString('hex') ?? ''
}

function textOf(fields: readonly Field[], number: number): string {
  return bytesOf(fields, number).at(-1)?.toString('utf8') ?? ''
}

function integerOf(fields: readonly Field[], number: number): bigint {
  const values = fields.flatMap((field) => (field.number === number && field.kind === 'integer' ? [field.integer] : []))
  return values.at(-1) ?? 0n
}
