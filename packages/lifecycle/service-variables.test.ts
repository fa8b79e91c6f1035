import { expect, test } from 'vitest'
import { parseEnvironment } from './environment.ts'
import { serviceVariables, tracingSettings } from './service-variables.ts'

function settingsOf(variables: Record<string, string>) {
  const parsed = parseEnvironment(serviceVariables, { TENTERHOOK_OPS_PORT: '0', ...variables })
  if (parsed.kind === 'invalid') throw new Error(parsed.problems.join('\n'))
  return tracingSettings(parsed.values)
}

test('without an OTLP endpoint nothing is traced', () => {
  expect(settingsOf({})).toEqual({ tracesUrl: undefined, sampleRatio: 1 })
})

test.each([
  ['http://c:4318', 'http://c:4318/v1/traces'],
  ['http://c:4318/', 'http://c:4318/v1/traces'],
  ['https://c/otlp', 'https://c/otlp/v1/traces'],
])('the general endpoint %s gets the path of traces appended', (endpoint, tracesUrl) => {
  expect(settingsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint })).toEqual({ tracesUrl, sampleRatio: 1 })
})

test('the endpoint for traces is taken as it is and before the general one', () => {
  const settings = settingsOf({
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://general',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://traces/in',
  })
  expect(settings.tracesUrl).toBe('http://traces/in')
})

test('OTEL_SDK_DISABLED turns it off', () => {
  const settings = settingsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c', OTEL_SDK_DISABLED: 'true' })
  expect(settings.tracesUrl).toBeUndefined()
})

test.each([
  ['always_on', 1],
  ['always_off', 0],
  ['traceidratio', 0.1],
  ['parentbased_always_on', 1],
  ['parentbased_always_off', 0],
  ['parentbased_traceidratio', 0.1],
])('the sampler %s with 0.1 records %d of the traces', (sampler, sampleRatio) => {
  expect(settingsOf({ OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: '0.1' })).toMatchObject({ sampleRatio })
})

test('a protocol that is not spoken is refused', () => {
  expect(() => settingsOf({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' })).toThrow(
    /expected one of http\/protobuf; found "grpc"/,
  )
})
