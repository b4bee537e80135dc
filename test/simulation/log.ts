import type { Appended, Log, LogBatch, LogMark, LogMessage, LogReader, MessageOutcome } from '../../actors/log/port.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { EPOCH, type Process, type Scheduler } from './clock.ts';
import { Lost, type Network } from './network.ts';

/**
 * A durable log on a server of its own, as JetStream is one: one running number over all shards, messages kept until
 * they are committed, a bound beyond which it refuses. It can lose its newest messages and grow again.
 */
export class LogServer {
  readonly #scheduler: Scheduler;
  readonly #maxReadings: number;
  readonly #shards: LogMessage[][];
  /** Position up to which each shard has been committed, in the numbering of this generation. */
  readonly #committed: number[];
  readonly connections = new Set<LogConnection>();
  /** Number of the newest message. */
  last = 0;
  /** Moves when the log goes back: what was said of positions before means nothing any more. */
  generation = 0;
  /** The server's wall clock may jump too. */
  wallOffsetMs = 0;
  held = 0;

  constructor(scheduler: Scheduler, shards: number, maxReadings: number) {
    this.#scheduler = scheduler;
    this.#maxReadings = maxReadings;
    this.#shards = Array.from({ length: shards }, () => []);
    this.#committed = new Array<number>(shards).fill(0);
  }

  append(batch: LogBatch): number {
    if (this.held + batch.readings.length > this.#maxReadings) {
      throw new TwinmeshError('overloaded', 'The log is full.');
    }
    const position = ++this.last;
    this.#shards[batch.shard].push({ ...batch, position, appendedAt: this.nowMs });
    this.held += batch.readings.length;
    for (const connection of this.connections) connection.pump(batch.shard);
    return position;
  }

  get nowMs(): number {
    return Math.floor(EPOCH + this.#scheduler.time + this.wallOffsetMs);
  }

  /** Whether messages of a shard have not been committed, by position and id of what has. */
  isBehind(shard: number, position: number, id: string | null): boolean {
    const newest = this.#shards[shard].at(-1);
    if (!newest) return false;
    if (newest.position !== position) return newest.position > position || newest.position > this.#committed[shard];
    return newest.id !== id;
  }

  after(shard: number, position: number, limit: number): LogMessage[] {
    const messages = this.#shards[shard];
    let first = messages.length;
    while (first > 0 && messages[first - 1].position > position) first--;
    return messages.slice(first, first + limit);
  }

  at(shard: number, position: number): LogMark | null {
    const found = this.#shards[shard].find((message) => message.position === position);
    return found ? { id: found.id, appendedAt: found.appendedAt } : null;
  }

  seek(shard: number, sinceMs: number): number {
    const messages = this.#shards[shard];
    const first = messages.findIndex((message) => message.appendedAt >= sinceMs);
    if (first < 0) return this.last;
    return messages[first].position - 1;
  }

  /** Drops what has been committed; the message at the position stays, to be recognised. */
  committed(shard: number, position: number, generation: number): void {
    if (generation !== this.generation) return;
    this.#committed[shard] = Math.max(this.#committed[shard], position);
    const messages = this.#shards[shard];
    while (messages.length > 0 && messages[0].position < this.#committed[shard]) {
      this.held -= messages.shift()!.readings.length;
    }
  }

  /** Loses its newest messages and every connection; answers what is lost. */
  goBack(messages: number): LogMessage[] {
    const keep = Math.max(0, this.last - messages);
    const lost: LogMessage[] = [];
    for (const [shard, kept] of this.#shards.entries()) {
      while (kept.length > 0 && kept[kept.length - 1].position > keep) {
        const message = kept.pop()!;
        this.held -= message.readings.length;
        lost.push(message);
      }
      this.#committed[shard] = Math.min(this.#committed[shard], keep);
    }
    this.last = keep;
    this.generation++;
    for (const connection of this.connections) connection.broken();
    return lost;
  }
}

interface Reader {
  shard: number;
  /** Newest message that has arrived here, and newest that the host has taken. */
  arrived: number;
  taken: number;
  generation: number;
  buffer: LogMessage[];
  /** Position of a message that was taken → generation of the log it was taken from. */
  handed: Map<number, number>;
  closed: boolean;
  broken: boolean;
  pumping: boolean;
  onReadable(): void;
  onReconnect: (() => void) | undefined;
}

const LOG_TIMEOUT_MS = 1_500;
const FETCH_MESSAGES = 8;

/** One process's connection to the log. */
export class LogConnection implements Log {
  readonly durable = true;
  connections = 0;
  readonly #server: LogServer;
  readonly #network: Network;
  readonly #process: Process;
  readonly #readers = new Map<number, Reader>();

  constructor(server: LogServer, network: Network, process: Process) {
    this.#server = server;
    this.#network = network;
    this.#process = process;
    server.connections.add(this);
    network.onHealed.push((from, to) => {
      if ([from, to].includes('log') && [from, to].includes(process.name)) this.broken();
    });
  }

  append(batch: LogBatch): Promise<Appended> {
    return this.#ask(() => ({ position: this.#server.append(batch) }));
  }

  read(shard: number, afterPosition: number, onReadable: () => void, onReconnect?: () => void): LogReader {
    const before = this.#readers.get(shard);
    if (before) before.closed = true;
    const reader: Reader = {
      shard,
      arrived: afterPosition,
      taken: afterPosition,
      generation: this.#server.generation,
      buffer: [],
      handed: new Map(),
      closed: false,
      broken: false,
      pumping: false,
      onReadable,
      onReconnect,
    };
    this.#readers.set(shard, reader);
    this.pump(shard);
    return {
      take: (maxReadings) => {
        const taken: LogMessage[] = [];
        let readings = 0;
        while (!reader.closed && reader.buffer.length > 0) {
          const message = reader.buffer[0];
          if (taken.length > 0 && readings + message.readings.length > maxReadings) break;
          readings += message.readings.length;
          taken.push(message);
          reader.taken = message.position;
          reader.handed.set(message.position, reader.generation);
          reader.buffer.shift();
        }
        return taken;
      },
      close: () => {
        reader.closed = true;
      },
    };
  }

  committed(shard: number, position: number, _outcomes: readonly MessageOutcome[]): void {
    // a number that was handed out before the log went back may by now stand for another message
    const generation = this.#readers.get(shard)?.handed.get(position) ?? -1;
    this.#network.send(this.#process.name, 'log', () => this.#server.committed(shard, position, generation));
  }

  at(shard: number, position: number): Promise<LogMark | null> {
    return this.#ask(() => this.#server.at(shard, position));
  }

  seek(shard: number, sinceMs: number): Promise<number> {
    return this.#ask(() => this.#server.seek(shard, sinceMs));
  }

  close(): Promise<void> {
    for (const reader of this.#readers.values()) reader.closed = true;
    return Promise.resolve();
  }

  /** There is something to fetch. */
  pump(shard: number): void {
    const reader = this.#readers.get(shard);
    if (!reader || reader.closed || reader.broken || reader.pumping) return;
    reader.pumping = true;
    this.#network.scheduler.after(1 + this.#process.random() * 2, () =>
      this.#process.run(() => {
        reader.pumping = false;
        if (reader.closed || reader.broken) return;
        if (!this.#network.passes(this.#process.name, 'log') || !this.#network.passes('log', this.#process.name)) {
          reader.broken = true;
          return;
        }
        const messages = this.#server.after(shard, reader.arrived, FETCH_MESSAGES);
        if (messages.length === 0) return;
        reader.arrived = messages[messages.length - 1].position;
        reader.buffer.push(...messages);
        reader.onReadable();
        this.pump(shard);
      }),
    );
  }

  /** The connection is gone and comes back in a moment: what was not taken is fetched again. */
  broken(): void {
    this.connections++;
    for (const reader of this.#readers.values()) {
      if (reader.closed) continue;
      reader.broken = true;
      this.#network.scheduler.after(20 + this.#process.random() * 200, () =>
        this.#process.run(() => {
          if (reader.closed || !reader.broken) return;
          reader.broken = false;
          reader.buffer = [];
          reader.arrived = reader.taken;
          reader.generation = this.#server.generation;
          reader.onReconnect?.();
          this.pump(reader.shard);
        }),
      );
    }
  }

  async #ask<T>(serve: () => T): Promise<T> {
    try {
      return await this.#network.request(this.#process, 'log', serve, LOG_TIMEOUT_MS);
    } catch (error) {
      throw error instanceof Lost ? new TwinmeshError('unavailable', error.message) : error;
    }
  }
}
