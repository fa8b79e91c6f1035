import { z } from 'zod'
import { deliveryId, eventId, type EventId } from '@tenterhook/schemas/ids'
import { name } from '@tenterhook/schemas/name'
import { bodyBytesCeiling } from '@tenterhook/schemas/source'
import { deliveryStates, eventStates } from '@tenterhook/schemas/states'
import { findIds } from '@tenterhook/store/config-filter'
import type { Db } from '@tenterhook/store/connect'
import { isAttemptId, listAttempts, readAttempt } from '@tenterhook/store/list-attempts'
import { listConnections } from '@tenterhook/store/list-connections'
import { deliveryIdsOf, listDeliveries } from '@tenterhook/store/list-deliveries'
import { listDestinations } from '@tenterhook/store/list-destinations'
import { listDuplicates, readDuplicate } from '@tenterhook/store/list-duplicates'
import { listEvents } from '@tenterhook/store/list-events'
import { listRejections } from '@tenterhook/store/list-rejections'
import { listSources } from '@tenterhook/store/list-sources'
import type { Page, PageRequest } from '@tenterhook/store/page'
import { readEventContent } from '@tenterhook/store/read-event'
import type { EncryptionKeys } from '@tenterhook/store/secrets'
import { givenId, idOf, nameOrIdOf, prefixes, sole, unknown } from './lookup.ts'
import { Refused } from './problem.ts'
import { ok, type Handler, type Reply } from './reply.ts'
import { cursorOf, isIdOf, oneText, pageOf, pageParameters, readQuery, timeParameters } from './request.ts'
import { showAttempt, showDelivery, showDuplicate, showEvent } from './views.ts'

/** Bodies beyond this are not shown within JSON, where they take more than twice their size; `/body` has them whole. */
const bodyShownBytesMax = 1_048_576
/** What an event or a delivery shows of what belongs to it; the lists have the rest. */
const withinMax = 200
const shownStates = [...deliveryStates, 'held'] as const

const eventParameters = {
  ...pageParameters,
  ...timeParameters,
  source: name.optional(),
  type: oneText.optional(),
  state: oneOf(eventStates).optional(),
}
const deliveryParameters = {
  ...pageParameters,
  ...timeParameters,
  event: eventId.optional(),
  connection: name.optional(),
  destination: name.optional(),
  state: oneOf(shownStates).optional(),
}
const attemptParameters = { ...pageParameters, ...timeParameters, delivery: deliveryId.optional() }
const rejectionParameters = {
  ...pageParameters,
  ...timeParameters,
  source: oneText.optional(),
  code: oneText.optional(),
}

/** The reading half of the API, by path. All of it asks `db`, the guarded pool: read only, under a statement timeout. */
export function readers({ db, keys }: { db: Db; keys: EncryptionKeys }): Record<string, Handler> {
  /** A list of the configuration, and one of its rows by id or name. */
  function configured<Row>(
    kind: 'source' | 'destination' | 'connection',
    list: (filter: { nameOrId?: string }, page: PageRequest) => Promise<Page<Row>>,
  ): Record<string, Handler> {
    return {
      [`/${kind}s`]: async (request) =>
        listed(await list({}, pageOf(readQuery(request, pageParameters), isIdOf(prefixes[kind])))),
      [`/${kind}s/:id`]: async (request) => {
        const nameOrId = nameOrIdOf(request, kind)
        return ok(sole(await list({ nameOrId }, { limit: 1 }), kind, nameOrId))
      },
    }
  }

  /** For filters: all that bear or bore a name. A name that nobody ever bore is a slip, not an empty list. */
  async function idsOf(
    kind: 'source' | 'destination' | 'connection',
    nameOrId: string | undefined,
  ): Promise<string[] | undefined> {
    if (nameOrId === undefined) return undefined
    const ids = await findIds(db, `${kind}s`, nameOrId)
    if (ids.length > 0) return ids
    throw new Refused({
      status: 400,
      code: 'filter_unknown',
      detail: `${kind}: there never was a ${kind} ${JSON.stringify(nameOrId)}`,
    })
  }

  return {
    ...configured('source', (filter, page) => listSources(db, filter, page, keys)),
    ...configured('destination', (filter, page) => listDestinations(db, filter, page, keys)),
    ...configured('connection', (filter, page) => listConnections(db, filter, page)),

    '/events': async (request) => {
      const query = readQuery(request, eventParameters)
      const page = pageOf(query, isIdOf('evt'))
      const sourceIds = await idsOf('source', query.source)
      return listed(await listEvents(db, { sourceIds, type: query.type, state: query.state }, page))
    },
    '/events/:id': async (request) => {
      const id = idOf<EventId>(request, 'event')
      const event = sole(await listEvents(db, { ids: [id] }, { limit: 1 }), 'event', id)
      const content = await readEventContent(db, id, bodyShownBytesMax)
      if (!content) throw unknown('event', id)
      const deliveries = await listDeliveries(db, { ids: await deliveryIdsOf(db, id) }, { limit: withinMax })
      const duplicates = await listDuplicates(db, id)
      return ok({ ...showEvent(event, content), deliveries: deliveries.rows.map(showDelivery), duplicates })
    },
    '/events/:id/body': async (request) => {
      const id = idOf(request, 'event')
      const content = await readEventContent(db, id, bodyBytesCeiling)
      if (!content?.body) throw unknown('event', id)
      return { kind: 'download', name: `${id}.bin`, bytes: content.body }
    },

    '/deliveries': async (request) => {
      const query = readQuery(request, deliveryParameters)
      const page = pageOf(query, isIdOf('dlv'))
      const ids = query.event && (await deliveryIdsOf(db, query.event))
      const connectionIds = await idsOf('connection', query.connection)
      const destinationIds = await idsOf('destination', query.destination)
      const { rows, next } = await listDeliveries(db, { ids, connectionIds, destinationIds, state: query.state }, page)
      return listed({ rows: rows.map(showDelivery), next })
    },
    '/deliveries/:id': async (request) => {
      const id = idOf(request, 'delivery')
      const delivery = sole(await listDeliveries(db, { ids: [id] }, { limit: 1 }), 'delivery', id)
      const attempts = await listAttempts(db, { deliveryId: delivery.id }, { limit: withinMax })
      return ok({ ...showDelivery(delivery), history: attempts.rows })
    },

    '/attempts': async (request) => {
      const query = readQuery(request, attemptParameters)
      return listed(await listAttempts(db, { deliveryId: query.delivery }, pageOf(query, isAttemptId)))
    },
    '/attempts/:id': async (request) => {
      const id = givenId(request)
      const attempt = await readAttempt(db, id)
      if (!attempt) throw unknown('attempt', id)
      return ok(showAttempt(attempt))
    },

    '/rejections': async (request) => {
      const query = readQuery(request, rejectionParameters)
      return listed(await listRejections(db, { source: query.source, code: query.code }, pageOf(query, isIdOf('rej'))))
    },
    '/rejections/:id': async (request) => {
      const id = idOf(request, 'rejection')
      return ok(sole(await listRejections(db, { ids: [id] }, { limit: 1 }), 'rejection', id))
    },

    '/duplicates/:id': async (request) => {
      const id = idOf(request, 'duplicate')
      const duplicate = await readDuplicate(db, id, bodyShownBytesMax)
      if (!duplicate) throw unknown('duplicate', id)
      return ok(showDuplicate(duplicate))
    },
  }
}

function listed<Row>({ rows, next }: Page<Row>): Reply {
  return ok({ data: rows, next: cursorOf(next) })
}

function oneOf<const Word extends string>(words: readonly Word[]) {
  return z.enum(words, `expected one of ${words.join(', ')}`)
}
