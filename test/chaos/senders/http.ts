import { setTimeout as sleep } from 'node:timers/promises';
import { isPoison } from '../reading.ts';
import { Lane, type Sent } from './lane.ts';

/** What an HTTP sender needs of the mesh: which gateways there are, and a key. */
export interface Gateways {
  readonly key: string;
  /** Base URLs of all gateways, whether they answer or not. */
  urls(): readonly string[];
}

const ANSWER_WITHIN_MS = 8_000;

/** NDJSON over HTTP to one gateway, to the next one when it does not answer. HTTP is answered after the commit. */
export class HttpLane extends Lane {
  readonly way = 'http';
  #gateways: Gateways | null = null;
  #at = Math.floor(this.random() * 100);

  to(gateways: Gateways): this {
    this.#gateways = gateways;
    return this;
  }

  async run(): Promise<void> {
    while (!this.finished) {
      const batch = this.take(this.portion);
      if (batch.length === 0) {
        await this.rest();
        continue;
      }
      if (await this.#post(batch)) this.acknowledged(batch);
      else {
        this.again(batch);
        this.#at++;
        await sleep(100);
      }
    }
  }

  async #post(batch: readonly Sent[]): Promise<boolean> {
    const gateways = this.#gateways as Gateways;
    const urls = gateways.urls();
    const url = urls[this.#at % urls.length];
    const body = batch.map((sent) => JSON.stringify({ twinId: sent.asset.twinId, ...this.bodyOf(sent) })).join('\n');
    let status: number;
    let text: string;
    try {
      const answer = await fetch(`${url}/api/v1/telemetry`, {
        method: 'POST',
        headers: { authorization: `Bearer ${gateways.key}`, 'content-type': 'application/x-ndjson' },
        body,
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
      });
      status = answer.status;
      text = await answer.text();
    } catch (error) {
      this.ledger.refused(error instanceof Error ? error.name : 'error');
      return false;
    }
    // Only "come back later" is allowed for good readings.
    if (status === 503 || status === 504) {
      this.ledger.refused(`${status} ${/"code":"(\w+)"/.exec(text)?.[1] ?? ''}`);
      return false;
    }
    if (status !== 200) {
      this.ledger.fault(`HTTP ${status} ${text}`);
      return false;
    }
    const { accepted, duplicates, rejected } = JSON.parse(text).data as Answer;
    for (const { index, code, message } of rejected) {
      const sent = batch[index];
      if (code === 'poison' && isPoison(sent.asset.index, sent.n)) continue;
      this.ledger.fault(`HTTP refused ${sent.asset.id} ${sent.n}: ${code} ${message}`);
    }
    if (accepted + duplicates + rejected.length !== batch.length) this.ledger.fault(`HTTP ${batch.length}: ${text}`);
    return true;
  }
}

interface Answer {
  accepted: number;
  duplicates: number;
  rejected: { index: number; code: string; message: string }[];
}
