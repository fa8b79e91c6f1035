/** The destination `plain` of the load's configuration, with what a scenario wants of it. */
import type { ConnectionInput } from '@tenterhook/schemas/connection'
import type { DeliveryState } from '@tenterhook/schemas/states'
import { until } from '../../support/poll.ts'
import { deliveriesOf } from '../../support/rows.ts'
import type { DeliveryRow } from '../../support/rows.ts'
import type { Stack, StackConfig } from '../../support/stack.ts'

/** It takes so many requests at once. */
export function atATime(config: StackConfig, concurrency: number): StackConfig {
  const plain = 'file' in config ? undefined : config.destinations?.['plain']
  if (plain !== undefined) plain.limits = { concurrency }
  return config
}

/** How its connection retries, and whether it keeps an order. */
export function connected(config: StackConfig, change: Pick<ConnectionInput, 'order' | 'retry'>): StackConfig {
  const connection = 'file' in config ? undefined : config.connections?.['to-plain']
  if (connection !== undefined) Object.assign(connection, change)
  return config
}

/** Pauses or resumes a destination in its row, as the API does. */
export async function pause({ store }: Stack, destination: string, paused: boolean): Promise<void> {
  await store.durable.query('UPDATE destinations SET paused = $1 WHERE name = $2', [paused, destination])
}

/** The only delivery there is to a destination. */
export async function deliveryTo({ store }: Stack, destination: string): Promise<DeliveryRow> {
  const row = (await deliveriesOf(store)).find((one) => one.destination === destination)
  if (row === undefined) throw new Error(`nothing was routed to ${destination}`)
  return row
}

export async function untilState(stack: Stack, destination: string, state: DeliveryState): Promise<void> {
  await until(async () => (await deliveryTo(stack, destination)).state === state, {
    what: `the delivery to ${destination} to be ${state}`,
    timeoutMs: 20_000,
  })
}
