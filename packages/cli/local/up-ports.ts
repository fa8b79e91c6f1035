import { choosePort, probePort } from './ports.ts'
import { serviceNames, type ServiceName } from './services.ts'
import { SetupError } from './setup-error.ts'

/** The ports that people and senders know; a taken one is refused, since an answer at another port helps nobody. */
export type PublicPorts = { readonly ingest: number; readonly console: number; readonly demo: number }

/** Checks the wished ports and chooses those wished as 0. A SetupError names the first that can't be had. */
export async function choosePublicPorts(wished: PublicPorts, { demo }: { demo: boolean }): Promise<PublicPorts> {
  const ingest = await choosePublicPort('ingest', wished.ingest, [])
  const console = await choosePublicPort('console', wished.console, [ingest])
  return { ingest, console, demo: demo ? await choosePublicPort('demo', wished.demo, [ingest, console]) : wished.demo }
}

async function choosePublicPort(name: keyof PublicPorts, wished: number, chosen: readonly number[]): Promise<number> {
  if (wished === 0) return choosePort(undefined, chosen)
  const advice = `choose another with TENTERHOOK_${name.toUpperCase()}_PORT=… or --${name}-port`
  if (chosen.includes(wished)) throw new SetupError('bad_option', `port ${wished} is wanted twice: ${advice}`)
  switch (await probePort(wished)) {
    case 'free':
      return wished
    case 'taken':
      throw new SetupError(
        'port_in_use',
        `port ${wished} (${name}) is in use by another program: end that one, or ${advice}`,
      )
    case 'forbidden':
      throw new SetupError('permission_denied', `no permission to listen on port ${wished} (${name}): ${advice}`)
  }
}

/** From `base` upwards, one for each service; a taken one is quietly replaced, since only machines ask for them. */
export async function chooseOpsPorts(base: number, taken: readonly number[]): Promise<Record<ServiceName, number>> {
  const ports = { ingest: base, router: base + 1, dispatcher: base + 2, console: base + 3 }
  const chosen = [...taken]
  for (const name of serviceNames) {
    ports[name] = await choosePort(base === 0 ? undefined : ports[name], chosen)
    chosen.push(ports[name])
  }
  return ports
}
