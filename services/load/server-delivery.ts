import { setTimeout as sleep } from 'node:timers/promises';
import { generic, TELEMETRY_PATH } from '../../actors/ingress/route.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind } from '../../actors/protocol/kind.ts';
import { hash32 } from '../../actors/protocol/twin-id.ts';
import type { ControlClient } from '../control-client.ts';
import type { Block } from './block.ts';
import type { Delivery } from './loading.ts';
import type { Delivered } from './totals.ts';

/**
 * Into the running server, as telemetry over its control socket. Each twin belongs to one lane, and a lane has one request
 * on its way: so twins get their readings in order, and the server is never idle.
 */
const LANES = 4;
/** So long a server that does not answer, or has too much to do, is asked again. */
const PATIENCE_MS = 60_000;
const RETRY_MS = { first: 100, most: 5000 };

interface Answer {
  accepted: number;
  duplicates: number;
  rejected: { code: string; message: string }[];
}

export class ServerDelivery implements Delivery {
  readonly way = 'through the running server';
  waiting: string | null = null;
  readonly #client: Pick<ControlClient, 'send'>;
  readonly #kind: Kind;
  readonly #lanes: Promise<unknown>[] = Array.from({ length: LANES }, () => Promise.resolve());
  readonly #maxBodyBytes: number;
  #closed = false;

  constructor(client: Pick<ControlClient, 'send'>, kind: Kind, maxBodyBytes: number) {
    this.#client = client;
    this.#kind = kind;
    this.#maxBodyBytes = maxBodyBytes;
  }

  async deliver(block: Block): Promise<Delivered> {
    const sent: Promise<Answer>[] = [];
    // Nobody has looked at the ids of messages yet: they share one lane.
    if (block.messages !== null) {
      if (block.messages.length > 0) sent.push(this.#queue(0, block.messages));
    } else {
      const lanes: string[][] = Array.from({ length: LANES }, () => []);
      for (const raw of block.readings) lanes[hash32(String(raw.id)) % LANES].push(generic(this.#kind, raw));
      lanes.forEach((lines, lane) => {
        for (const body of this.#bodies(lines)) sent.push(this.#queue(lane, body));
      });
    }
    const answers = await Promise.all(sent);
    // The server tells backfill and folded readings as one number.
    const delivered: Delivered = { accepted: 0, duplicates: 0, backfilled: null, rejected: [] };
    for (const answer of answers) {
      delivered.accepted += answer.accepted;
      delivered.duplicates += answer.duplicates;
      delivered.rejected.push(...answer.rejected);
    }
    return delivered;
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  /** Lines in bodies that the server takes. */
  *#bodies(lines: readonly string[]): Generator<string> {
    let body = '';
    for (const line of lines) {
      // Of three bytes a character at most.
      if (body !== '' && (body.length + line.length + 1) * 3 > this.#maxBodyBytes) {
        yield body;
        body = '';
      }
      body += `${line}\n`;
    }
    if (body !== '') yield body;
  }

  #queue(lane: number, body: Uint8Array | string): Promise<Answer> {
    const sent = this.#lanes[lane].then(() => this.#send(body));
    this.#lanes[lane] = sent;
    // What follows in the lane must not overtake: a failed request fails the lane.
    sent.catch(() => undefined);
    return sent;
  }

  async #send(body: Uint8Array | string): Promise<Answer> {
    const since = performance.now();
    let retryMs = RETRY_MS.first;
    for (;;) {
      try {
        const answer = await this.#client.send<Answer>('POST', TELEMETRY_PATH, 'application/x-ndjson', body);
        this.waiting = null;
        return answer;
      } catch (error) {
        const mayPass = error instanceof TwinmeshError && error.spec.retryable;
        this.waiting = messageOf(error);
        if (!mayPass || this.#closed || performance.now() - since > PATIENCE_MS) throw error;
        await sleep(retryMs);
        retryMs = Math.min(retryMs * 2, RETRY_MS.most);
      }
    }
  }
}
