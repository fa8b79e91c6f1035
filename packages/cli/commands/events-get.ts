import { Command } from 'commander'
import { deliveryDetail, eventDetail, type Attempt } from './api-shapes.ts'
import { reachConsole } from './console-client.ts'
import { eventText } from './event-text.ts'
import type { Surroundings } from './surroundings.ts'

type Flags = { json?: boolean; body?: boolean }

/** Deliveries whose attempts are asked for, one after the other. */
const historiesMax = 50

export function eventsGetCommand(surroundings: Surroundings): Command {
  return new Command('get')
    .description('all about one event: what came, why each connection matched or not, every attempt')
    .argument('<id>', 'evt_…')
    .option('--json', 'as the API gives it, each delivery with its history')
    .option('--body', 'nothing but the body, byte for byte')
    .action(async (id: string, { json = false, body = false }: Flags) => {
      const client = await reachConsole(surroundings)
      const path = `/v1/events/${encodeURIComponent(id)}`
      if (body) return surroundings.write(await client.download(`${path}/body`))
      const event = await client.get(path, eventDetail)
      const histories = new Map<string, Attempt[]>()
      for (const delivery of event.deliveries.slice(0, historiesMax)) {
        const { history } = await client.get(`/v1/deliveries/${delivery.id}`, deliveryDetail)
        histories.set(delivery.id, history)
      }
      if (!json) return surroundings.out(eventText(event, histories).join('\n'))
      const deliveries = event.deliveries.map((delivery) => ({
        ...delivery,
        history: histories.get(delivery.id) ?? [],
      }))
      return surroundings.out(JSON.stringify({ ...event, deliveries }))
    })
}
