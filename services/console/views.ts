import { isUtf8 } from 'node:buffer'
import type { AttemptDetail } from '@tenterhook/store/list-attempts'
import type { DeliverySummary } from '@tenterhook/store/list-deliveries'
import type { DuplicateDetail } from '@tenterhook/store/list-duplicates'
import type { EventSummary } from '@tenterhook/store/list-events'
import type { EventContent } from '@tenterhook/store/read-event'

/** What the API shows, made of what the store reads. Secrets are not in what the store reads for showing. */

export function showDelivery({ traceparent, ...delivery }: DeliverySummary) {
  return { ...delivery, held: delivery.heldBy !== null, traceId: traceIdOf(traceparent) }
}

export function showEvent(event: EventSummary, { id: _id, body, traceparent, ...content }: EventContent) {
  return { ...event, ...content, traceId: traceIdOf(traceparent), ...showBytes('body', body) }
}

export function showDuplicate({ body, ...duplicate }: DuplicateDetail) {
  return { ...duplicate, ...showBytes('body', body) }
}

export function showAttempt({ responseBody, ...attempt }: AttemptDetail) {
  return { ...attempt, ...showBytes('responseBody', responseBody) }
}

/** The bytes twice: exactly, as base64, and as text where they are UTF-8. Both null when there are none, or too many to show. */
function showBytes<Name extends string>(name: Name, bytes: Buffer | null) {
  return {
    [`${name}Base64`]: bytes === null ? null : bytes.toString('base64'),
    [`${name}Text`]: bytes !== null && isUtf8(bytes) ? bytes.toString('utf8') : null,
  } as Record<`${Name}Base64` | `${Name}Text`, string | null>
}

/** `00-<trace id>-<span id>-<flags>` (W3C Trace Context). */
function traceIdOf(traceparent: string | null): string | null {
  return traceparent === null ? null : traceparent.slice(3, 35)
}
