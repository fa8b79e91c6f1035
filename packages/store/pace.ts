import type { DestinationId } from '@tenterhook/schemas/ids'
import type { Db } from './connect.ts'

/** How many deliveries of a destination may be admitted at once, at most. */
export const windowMax = 2_000

export interface Pace {
  destinationId: DestinationId
  /** Deliveries that may be admitted at once: what it can take within some seconds. */
  window: number
  /** It is slow, and runs apart from the others for this long; 0 when it isn't. It ends by itself unless it is said again. */
  slowForMs: number
}

/** What the dispatcher has seen of destinations' speed. Of two copies that see it differently the last one counts. */
export async function setPace(db: Db, paces: readonly Pace[]): Promise<void> {
  await db.query({
    name: 'pace',
    text: `WITH l AS MATERIALIZED (
        SELECT t.id, p.win, p.slow_ms FROM destinations t JOIN unnest($1::text[], $2::int[], $3::float8[]) AS p(id, win, slow_ms) ON p.id = t.id
        ORDER BY t.id FOR NO KEY UPDATE OF t)
      UPDATE destinations t SET win = l.win, slow_until = CASE WHEN l.slow_ms > 0 THEN clock() + l.slow_ms * interval '1 millisecond' ELSE '-infinity' END
      FROM l WHERE t.id = l.id`,
    values: [
      paces.map((pace) => pace.destinationId),
      paces.map((pace) => Math.min(windowMax, Math.max(1, Math.round(pace.window)))),
      paces.map((pace) => pace.slowForMs),
    ],
  })
}
