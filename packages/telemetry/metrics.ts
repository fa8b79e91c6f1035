import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

export type ServiceName = 'ingest' | 'router' | 'dispatcher' | 'console'

export type Metrics = ReturnType<typeof createMetrics>

/** Sources and destinations beyond this many share the label value `other`: a series each would outgrow Prometheus. */
const namesMax = 500

const acceptSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const routeSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
/** Up to the 15 s that an attempt may take, and past it for destinations with a longer timeout. */
const attemptSeconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60]
const batchRows = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/**
 * Every instrument of Tenterhook, and the registry that one service shows on its ops port: its own instruments and
 * Node's (CPU, memory, event loop lag). An instrument of another service works here but is shown by nobody.
 *
 * The four that page: `oldestDueAge`, `accepts` with outcome `unavailable`, `deadLetters`, `sweptRows`.
 */
export function createMetrics({ service }: { service: ServiceName }) {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })

  /** The registries of an instrument that these services emit. */
  const shownBy = (...services: ServiceName[]) => (services.includes(service) ? [registry] : [])

  return {
    registry,

    // Ingest.

    /** Requests that reached a source: `accepted`, `duplicate`, `rejected` (the sender's fault), `unavailable` (ours). */
    accepts: namedCounter(
      new Counter({
        name: 'tenterhook_accepts_total',
        help: 'Requests to a source by outcome: accepted, duplicate, rejected, unavailable.',
        labelNames: ['source', 'outcome'],
        registers: shownBy('ingest'),
      }),
      'source',
    ),
    rejections: namedCounter(
      new Counter({
        name: 'tenterhook_rejections_total',
        help: 'Rejected requests by reason code.',
        labelNames: ['source', 'code'],
        registers: shownBy('ingest'),
      }),
      'source',
    ),
    acceptDuration: new Histogram({
      name: 'tenterhook_accept_duration_seconds',
      help: 'From the last byte of a request to its answer.',
      buckets: acceptSeconds,
      registers: shownBy('ingest'),
    }),
    acceptBatchRows: new Histogram({
      name: 'tenterhook_accept_batch_rows',
      help: 'Events committed together in one transaction.',
      buckets: batchRows,
      registers: shownBy('ingest'),
    }),
    bufferedBytes: new Gauge({
      name: 'tenterhook_buffered_bytes',
      help: 'Bytes of request bodies held in memory.',
      registers: shownBy('ingest'),
    }),

    // Router.

    eventsRouted: new Counter({
      name: 'tenterhook_events_routed_total',
      help: 'Events routed by outcome: matched, unmatched, unroutable.',
      labelNames: ['outcome'],
      registers: shownBy('router'),
    }),
    routeDuration: new Histogram({
      name: 'tenterhook_route_duration_seconds',
      help: 'One routing transaction, of a batch of events.',
      buckets: routeSeconds,
      registers: shownBy('router'),
    }),

    /** Each destination that something keeps from its usual way, and what: `paused`, `open`, `half_open`, `slow`. */
    destinationsNotHealthy: namedGauge(
      new Gauge({
        name: 'tenterhook_destination_not_healthy',
        help: 'Destinations that are paused, whose breaker is open or half open, or that are slow; the healthy have no series.',
        labelNames: ['destination', 'state'],
        registers: shownBy('router'),
      }),
      'destination',
    ),
    /** Counted up to 10,000 of each kind and day. */
    unfinishedPastRetention: new Gauge({
      name: 'tenterhook_unfinished_past_retention',
      help: 'Unfinished events and deliveries of days past the retention; a day after the alert they go dead as expired.',
      registers: shownBy('router'),
    }),
    oldestDayAge: new Gauge({
      name: 'tenterhook_oldest_day_age_seconds',
      help: 'Age of the oldest day that is stored; far beyond the retention, something keeps it from being dropped.',
      registers: shownBy('router'),
    }),

    // Dispatcher.

    attempts: namedCounter(
      new Counter({
        name: 'tenterhook_attempts_total',
        help: 'Attempts by outcome.',
        labelNames: ['destination', 'outcome'],
        registers: shownBy('dispatcher'),
      }),
      'destination',
    ),
    attemptDuration: new Histogram({
      name: 'tenterhook_attempt_duration_seconds',
      help: 'One attempt, from name resolution to the end of the response.',
      buckets: attemptSeconds,
      registers: shownBy('dispatcher'),
    }),
    deadLetters: namedCounter(
      new Counter({
        name: 'tenterhook_dead_letters_total',
        help: 'Deliveries that went dead, by reason.',
        labelNames: ['destination', 'reason'],
        registers: shownBy('dispatcher'),
      }),
      'destination',
    ),
    deliveriesInFlight: new Gauge({
      name: 'tenterhook_deliveries_in_flight',
      help: 'Leased deliveries that this process is sending.',
      registers: shownBy('dispatcher'),
    }),
    lostLeases: new Counter({
      name: 'tenterhook_lost_leases_total',
      help: 'Results that came after their lease was taken over: possible duplicates.',
      registers: shownBy('dispatcher'),
    }),

    // Console.

    operatorActions: new Counter({
      name: 'tenterhook_operator_actions_total',
      help: 'What operators did: replayed, retried, cancelled, paused, resumed, promoted, signed_in.',
      labelNames: ['action'],
      registers: shownBy('console'),
    }),
    accessRefused: new Counter({
      name: 'tenterhook_access_refused_total',
      help: 'Requests to the console without access: no_credential, token_wrong, tries_used_up, cross_site.',
      labelNames: ['reason'],
      registers: shownBy('console'),
    }),

    // The sweeper, in router and dispatcher.

    sweptRows: new Counter({
      name: 'tenterhook_swept_rows_total',
      help: 'Overdue rows that the sweeper recovered; about zero when healthy.',
      labelNames: ['kind'],
      registers: shownBy('router', 'dispatcher'),
    }),
    oldestDueAge: new Gauge({
      name: 'tenterhook_oldest_due_age_seconds',
      help: 'How long the oldest overdue row has been waiting.',
      registers: shownBy('router', 'dispatcher'),
    }),
    clockOffset: new Gauge({
      name: 'tenterhook_clock_offset_seconds',
      help: "Postgres's clock less this machine's.",
      registers: shownBy('ingest', 'router', 'dispatcher', 'console'),
    }),
    redisEpochs: new Counter({
      name: 'tenterhook_redis_epochs_total',
      help: 'Times that Redis was found wiped or rewound.',
      registers: shownBy('dispatcher'),
    }),
    oldestSnapshotAge: new Gauge({
      name: 'tenterhook_oldest_snapshot_age_seconds',
      help: "Age of Postgres's oldest open snapshot; a long one slows every sweep.",
      registers: shownBy('router', 'dispatcher'),
    }),
  }
}

/** A counter whose label `name` takes the first 500 names it sees and calls the rest `other`. */
function namedCounter<Name extends string, Label extends string>(counter: Counter<Name | Label>, name: Name) {
  const seen = new Set<string>()
  const admit = (value: string) => {
    if (seen.has(value)) return value
    if (seen.size >= namesMax) return 'other'
    seen.add(value)
    return value
  }
  return {
    inc(labels: Record<Name | Label, string>, by = 1): void {
      counter.inc({ ...labels, [name]: admit(labels[name]) }, by)
    },
  }
}

/** A gauge whose series are set all at once, those of before gone; of more than 500 the rest are counted as `other`. */
function namedGauge<Name extends string, Label extends string>(gauge: Gauge<Name | Label>, name: Name) {
  return {
    show(all: readonly Record<Name | Label, string>[]): void {
      gauge.reset()
      for (const [index, labels] of all.entries())
        gauge.inc({ ...labels, [name]: index < namesMax ? labels[name] : 'other' })
    },
  }
}
