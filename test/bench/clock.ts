/**
 * Microseconds on the machine's monotonic clock, the same for every process on it (CLOCK_MONOTONIC, mach_absolute_time).
 * Stamps of one process can be compared with readings of another; wall clocks step, and each process's own
 * `performance` counts from its own start.
 */
export function nowUs(): number {
  return Math.round(Number(process.hrtime.bigint()) / 1_000)
}

export async function sleepUntilUs(atUs: number): Promise<void> {
  const leftMs = (atUs - nowUs()) / 1_000
  if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.ceil(leftMs)))
}
