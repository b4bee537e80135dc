import type { Clock, TimerHandle } from '../../actors/protocol/clock.ts';
import type { PredictRequest } from '../../actors/protocol/prediction.ts';
import type { Sql } from '../../actors/store/sql.ts';
import type { ModelCard } from '../../models/card.ts';
import { addCounts, InputCounter, type InputCounts } from '../../models/drift.ts';

/**
 * Counts what the models of this node are asked, and writes the counts down once a minute, an hour of each version a row. What
 * a process that ends had counted since is lost: drift is a matter of hours.
 *
 * Owns the counting. Does not own what it means (report.ts).
 */
const FLUSH_MS = 60_000;
const HOUR_MS = 3_600_000;

export interface DriftBookOptions {
  sql: Sql;
  clock: Clock;
  node: string;
  onFault(error: unknown): void;
}

interface Version {
  card: ModelCard;
  counter: InputCounter;
}

export class DriftBook {
  readonly #options: DriftBookOptions;
  readonly #versions = new Map<string, Version>();
  #timer: TimerHandle | undefined;
  #isClosed = false;
  /** Rows are read and written back: one flush after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: DriftBookOptions) {
    this.#options = options;
    this.#next();
  }

  observe(card: ModelCard, { inputs, rows }: PredictRequest): void {
    const id = `${card.name}@${card.version}`;
    let version = this.#versions.get(id);
    if (version === undefined) {
      version = { card, counter: new InputCounter(card.inputs) };
      this.#versions.set(id, version);
    }
    version.counter.observe(inputs, rows);
  }

  /** Writes down what was counted. Throws store_down; then it is lost. */
  flush(): Promise<void> {
    const turn = this.#turn.then(() => this.#flush());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #flush(): Promise<void> {
    const { sql, clock, node } = this.#options;
    const hour = new Date(Math.floor(clock.now() / HOUR_MS) * HOUR_MS);
    for (const { card, counter } of this.#versions.values()) {
      const taken = counter.take();
      if (taken === null) continue;
      const key = [card.name, card.version, hour, node];
      const [before] = await sql.query<{ counts: InputCounts[] }>(
        'select counts from drift_counts where model = $1 and version = $2 and hour = $3 and node = $4',
        key,
      );
      // only this node writes its rows
      await sql.query(
        `insert into drift_counts (model, version, hour, node, kind, rows, counts) values ($1, $2, $3, $4, $5, $6, $7::jsonb)
         on conflict (model, version, hour, node) do update set rows = drift_counts.rows + excluded.rows, counts = excluded.counts`,
        [...key, card.kind, taken.rows, JSON.stringify(addCounts(before?.counts ?? [], taken.counts))],
      );
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.flush().catch(this.#options.onFault);
  }

  #next(): void {
    this.#timer = this.#options.clock.after(FLUSH_MS, () => {
      this.flush()
        .catch(this.#options.onFault)
        .finally(() => {
          if (!this.#isClosed) this.#next();
        });
    });
  }
}
