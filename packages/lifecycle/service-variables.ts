import type { Environment } from './environment.ts'
import { durationMs, flag, host, httpUrl, logLevel, oneOf, port, ratio } from './variables.ts'

/** The variables that every service reads. A service spreads them and adds its own. */
export const serviceVariables = {
  HOST: host.default('127.0.0.1'),
  LOG_LEVEL: logLevel.default('info'),
  TENTERHOOK_OPS_PORT: port,
  /** Kubernetes takes seconds to stop sending; on one machine nobody has to be waited for. */
  TENTERHOOK_DRAIN_DELAY: durationMs.default(0),
  /** With the drain delay, under the 30 s after which Kubernetes and Compose files of ours kill. */
  TENTERHOOK_GRACE: durationMs.default(25_000),

  OTEL_SDK_DISABLED: flag.default(false),
  OTEL_EXPORTER_OTLP_ENDPOINT: httpUrl.optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: httpUrl.optional(),
  /** Named here so that a wish for gRPC or JSON is refused and not ignored. */
  OTEL_EXPORTER_OTLP_PROTOCOL: oneOf(['http/protobuf']).optional(),
  OTEL_TRACES_SAMPLER: oneOf([
    'always_on',
    'always_off',
    'traceidratio',
    'parentbased_always_on',
    'parentbased_always_off',
    'parentbased_traceidratio',
  ]).default('parentbased_always_on'),
  OTEL_TRACES_SAMPLER_ARG: ratio.default(1),
}

/**
 * Where spans go and which share of the traces is recorded, by the variables of the OpenTelemetry specification
 * (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). `parentbased_` changes nothing:
 * between our services it always holds, and a sender's own flag never counts.
 */
export function tracingSettings(environment: Environment<typeof serviceVariables>): {
  tracesUrl: string | undefined
  sampleRatio: number
} {
  const base = environment.OTEL_EXPORTER_OTLP_ENDPOINT
  const tracesUrl =
    environment.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ??
    (base === undefined ? undefined : `${base.replace(/\/+$/, '')}/v1/traces`)
  return {
    tracesUrl: environment.OTEL_SDK_DISABLED ? undefined : tracesUrl,
    sampleRatio: sampleRatio(environment.OTEL_TRACES_SAMPLER, environment.OTEL_TRACES_SAMPLER_ARG),
  }
}

function sampleRatio(sampler: string, argument: number): number {
  if (sampler.endsWith('always_on')) return 1
  if (sampler.endsWith('always_off')) return 0
  return argument
}
