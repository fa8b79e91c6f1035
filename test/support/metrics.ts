import type { ServiceProcess } from './service-process.ts'

/** The sum of a metric over its labels, as a service shows it; 0 when it has no sample. */
export async function metricOf(
  service: ServiceProcess,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const { text } = await service.ops('/metrics')
  let sum = 0
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (match?.[1] !== name) continue
    const has = match[2] ?? ''
    if (Object.entries(labels).every(([label, value]) => has.includes(`${label}="${value}"`))) sum += Number(match[3])
  }
  return sum
}
