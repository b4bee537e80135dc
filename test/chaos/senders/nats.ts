import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { isPoison } from '../reading.ts';
import { Lane, type Sent } from './lane.ts';

const ANSWER_WITHIN_MS = 5_000;
const CONNECT_WITHIN_MS = 3_000;

/** Requests over core NATS, `twins.in.counter.<id>`, an array of readings each; the answer is the acknowledgement. */
export class NatsLane extends Lane {
  readonly way = 'nats';
  #url = '';

  to(url: string): this {
    this.#url = url;
    return this;
  }

  async run(): Promise<void> {
    let connection: NatsConnection | null = null;
    while (!this.finished) {
      const batch = this.take(this.portion);
      if (batch.length === 0) {
        await this.rest();
        continue;
      }
      if (connection === null || connection.isClosed())
        connection = await connect({ servers: this.#url, timeout: CONNECT_WITHIN_MS, reconnect: false }).catch(
          () => null,
        );
      const asked = connection;
      const answers = await Promise.all(
        [...Map.groupBy(batch, (sent) => sent.asset).values()].map((some) => this.#ask(asked, some)),
      );
      if (answers.every(Boolean)) continue;
      await sleep(200);
    }
    await connection?.close().catch(() => undefined);
  }

  async #ask(connection: NatsConnection | null, batch: readonly Sent[]): Promise<boolean> {
    const acknowledged = await this.#answer(connection, batch);
    if (acknowledged) this.acknowledged(batch);
    else this.again(batch);
    return acknowledged;
  }

  async #answer(connection: NatsConnection | null, batch: readonly Sent[]): Promise<boolean> {
    if (connection === null) return false;
    const payload = JSON.stringify(batch.map((sent) => this.bodyOf(sent)));
    let answer: Answer;
    try {
      const subject = `twins.in.${batch[0].asset.twinId.replace(':', '.')}`;
      answer = (await connection.request(subject, payload, { timeout: ANSWER_WITHIN_MS })).json<Answer>();
    } catch (error) {
      this.ledger.refused(`NATS: ${(error as { code?: string }).code ?? 'error'}`);
      return false;
    }
    if (answer.error) {
      this.ledger.refused(`NATS: ${answer.error.code}`);
      return false;
    }
    for (const { index, code, message } of answer.rejected) {
      const { asset, n } = batch[index];
      if (code === 'poison' && isPoison(asset.index, n)) continue;
      this.ledger.fault(`NATS refused ${asset.id} ${n}: ${code} ${message}`);
    }
    if (answer.accepted + answer.duplicates + answer.rejected.length !== batch.length)
      this.ledger.fault(`NATS ${batch.length}: ${JSON.stringify(answer)}`);
    return true;
  }
}

interface Answer {
  accepted: number;
  duplicates: number;
  rejected: { index: number; code: string; message: string }[];
  error?: { code: string; message: string };
}
