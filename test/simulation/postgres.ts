import type { Clock } from './clock.ts'
import type { TransactionName } from './moments.ts'
import type { Coroutine, Machine, Process, Steps } from './process.ts'
import type { AttemptRow, DeliveryRow, DestinationRow, EpochRow, EventRow } from './rows.ts'

/**
 * A Postgres as far as the protocol's races need one:
 *
 * - A transaction is a coroutine of the server, which may outlive its client. It reads what is committed and what it
 *   wrote itself (READ COMMITTED). Its steps are its statements; one that decides by other rows than those it locks
 *   takes a step for its snapshot and another for its locks, between which others commit.
 * - Row locks are held to the end; `lock` waits, `tryLock` is SKIP LOCKED; a cycle of waiting ends with a deadlock.
 * - A commit is visible at once. A synchronous one makes itself and all before it durable; a crash takes back any
 *   suffix of the asynchronous ones since, every running transaction and every lock.
 * - `clock()` is the start of the transaction.
 */
export interface Postgres {
  readonly events: Table<EventRow>
  readonly deliveries: Table<DeliveryRow>
  readonly destinations: Table<DestinationRow>
  /** Event by dedupe key. */
  readonly dedupe: Table<string>
  readonly attempts: Table<AttemptRow>
  /** Delivery by the key of the replay request. */
  readonly replays: Table<string>
  readonly epoch: Table<EpochRow>
  /** Of the sequence behind `events.seq`: never the same twice. */
  nextSeq(): number
  /** Runs a transaction. `synchronous` is synchronous_commit. */
  query<Value>(query: Query<Value>): Steps<Reply<Value>>
  /** How many transactions were begun. */
  begun(): number
  /** Whether no crash could take this row away any more. */
  isDurable(table: Table<unknown>, id: string): boolean
  /** How many asynchronous commits a crash could take back. */
  losable(): number
  /** Keeps that many of them. */
  crash(kept: number): void
  /** Clients that wait for a reply. */
  awaited(): number
  /** Cuts the connection of this transaction's client, or of any, before the reply: nobody tells it whether it `ends` without a commit. */
  cut(running: Coroutine | undefined, pick: number, ends: boolean): void
  /** A killed client waits for nothing; what it asked for goes on, or `ends` without a commit. */
  forget(client: Process, ends: boolean): void
}

export interface Query<Value> {
  readonly name: TransactionName
  readonly client: Process
  readonly synchronous: boolean
  /** The lease that it is about. */
  readonly token?: string
  readonly body: (tx: Transaction) => Steps<Value>
}

export type Table<Row> = Map<string, Row>

/** `refused` came before the commit: a row or a deadlock. `unknown`: committed or not, or yet to be. */
export type Reply<Value> =
  | { kind: 'committed'; value: Value }
  | { kind: 'refused'; reason: Refusal }
  | { kind: 'unknown' }

export type Refusal = 'row' | 'deadlock'

export interface Transaction {
  readonly client: Process
  readonly token: string | undefined
  /** In the order of their begin. */
  readonly number: number
  readonly startedMs: number
  read<Row>(table: Table<Row>, id: string): Row | undefined
  write<Row>(table: Table<Row>, id: string, row: Row): void
  lock(id: string): Steps
  tryLock(id: string): boolean
}

/** Ends a transaction before its commit. */
export class Refused extends Error {
  readonly reason: Refusal
  constructor(reason: Refusal, text: string) {
    super(text)
    this.reason = reason
  }
}

interface Write {
  readonly table: Table<unknown>
  readonly id: string
  readonly row: unknown
}

interface Session extends Transaction {
  readonly writes: Write[]
  readonly locks: string[]
  waitsFor: Session | undefined
  running: Coroutine | undefined
  reply: Reply<unknown> | undefined
}

export interface PostgresHooks {
  readonly onDelivery: (before: DeliveryRow | undefined, after: DeliveryRow, tx: Transaction) => void
  readonly onEvent: (after: EventRow) => void
  readonly onStatement: (name: TransactionName) => void
  readonly onDeadlock: (text: string) => void
}

export function createPostgres(clock: Clock, machine: Machine, hooks: PostgresHooks): Postgres {
  const server = machine.add('postgres', () => {})
  const events: Table<EventRow> = new Map()
  const deliveries: Table<DeliveryRow> = new Map()
  const locks = new Map<string, Session>()
  /** Asynchronous commits since the last synchronous one, oldest first. */
  let tail: Write[][] = [] // each row as it was before
  /** Whose client waits. */
  let sessions: Session[] = []
  let lastSeq = 0
  let begun = 0

  function begin(client: Process, token: string | undefined): Session {
    const session: Session = {
      client,
      token,
      number: (begun += 1),
      startedMs: clock.nowMs,
      writes: [],
      locks: [],
      waitsFor: undefined,
      running: undefined,
      reply: undefined,
      read<Row>(table: Table<Row>, id: string) {
        const own = session.writes.findLast((write) => write.id === id && write.table === table)
        return own === undefined ? table.get(id) : (own.row as Row) // written into this table
      },
      write(table, id, row) {
        session.writes.push({ table, id, row })
      },
      *lock(id) {
        for (let holder = locks.get(id); holder !== undefined && holder !== session; holder = locks.get(id)) {
          session.waitsFor = holder
          for (let next = holder.waitsFor; next !== undefined; next = next.waitsFor) {
            if (next !== session) continue
            hooks.onDeadlock(`${client.name} and ${holder.client.name} wait for each other’s locks`)
            throw new Refused('deadlock', id)
          }
          yield () => !locks.has(id)
        }
        session.waitsFor = undefined
        session.tryLock(id)
      },
      tryLock(id) {
        const holder = locks.get(id)
        if (holder !== undefined) return holder === session
        locks.set(id, session)
        session.locks.push(id)
        return true
      },
    }
    return session
  }

  function end(session: Session): void {
    for (const id of session.locks) locks.delete(id)
    session.waitsFor = undefined
  }

  /** Unless it was committed. */
  function abort(session: Session): void {
    if (session.reply !== undefined || session.running === undefined) return
    end(session)
    machine.drop(session.running)
  }

  function commit(session: Session, synchronous: boolean): void {
    const undo: Write[] = []
    for (const { table, id, row } of session.writes) {
      const before = table.get(id)
      undo.push({ table, id, row: before })
      table.set(id, row)
      if (table === deliveries) hooks.onDelivery(before as DeliveryRow | undefined, row as DeliveryRow, session)
      else if (table === events) hooks.onEvent(row as EventRow)
    }
    if (synchronous) tail = []
    else if (undo.length > 0) tail.push(undo)
    end(session)
  }

  function* run<Value>(
    session: Session,
    name: TransactionName,
    synchronous: boolean,
    body: (tx: Transaction) => Steps<Value>,
  ): Steps {
    try {
      const statements = body(session)
      let next = statements.next()
      for (; next.done !== true; next = statements.next()) {
        hooks.onStatement(name)
        yield next.value
      }
      const { value } = next
      hooks.onStatement(name)
      yield // the COMMIT is a step of its own
      commit(session, synchronous)
      session.reply ??= { kind: 'committed', value }
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      end(session)
      session.reply ??= { kind: 'refused', reason: error.reason }
    }
  }

  return {
    events,
    deliveries,
    destinations: new Map(),
    dedupe: new Map(),
    attempts: new Map(),
    replays: new Map(),
    epoch: new Map(),
    nextSeq: () => (lastSeq += 1),
    *query<Value>({ name, client, synchronous, token, body }: Query<Value>) {
      const session = begin(client, token)
      sessions.push(session)
      session.running = machine.spawn(server, run(session, name, synchronous, body))
      yield () => session.reply !== undefined
      sessions = sessions.filter((other) => other !== session)
      return (session.reply ?? { kind: 'unknown' }) as Reply<Value> // what `body` returned
    },
    begun: () => begun,
    isDurable: (table, id) =>
      !tail.some((writes) =>
        writes.some((write) => write.table === table && write.id === id && write.row === undefined),
      ),
    losable: () => tail.length,
    crash(kept) {
      for (const { table, id, row } of tail.splice(kept).flat().reverse()) {
        if (row === undefined) table.delete(id)
        else table.set(id, row)
      }
      tail = []
      locks.clear()
      machine.dropAll(server)
      for (const session of sessions) session.reply ??= { kind: 'unknown' }
    },
    awaited: () => sessions.length,
    cut(running, pick, ends) {
      const session = sessions.find((each) => each.running === running) ?? sessions[pick % sessions.length]
      if (session === undefined) return
      if (ends) abort(session)
      session.reply = { kind: 'unknown' }
    },
    forget(client, ends) {
      for (const session of sessions) if (ends && session.client === client) abort(session)
      sessions = sessions.filter((session) => session.client !== client)
    },
  }
}
