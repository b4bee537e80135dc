import { createHmac } from 'node:crypto';
import type { WebhookSettings } from '../notify/receiver-settings.ts';
import { post } from './post.ts';
import type { Receiver } from './receiver.ts';

/**
 * The notification as JSON. With a secret the header `x-twinmesh-signature` is `t=<seconds>,v1=<hex>`, where v1 is HMAC-SHA256
 * of `<seconds>.<body>`: whoever checks it refuses an old t too. `x-twinmesh-delivery` is the same at every attempt.
 */
export function webhook({ url, secret, headers }: WebhookSettings): Receiver {
  return {
    send({ payload, key, nowMs, signal }) {
      const body = JSON.stringify({ id: key, ...payload });
      const signed: Record<string, string> =
        secret === null ? {} : { 'x-twinmesh-signature': signatureOf(secret, body, nowMs) };
      return post({ url, body, headers: { ...headers, 'x-twinmesh-delivery': key, ...signed }, nowMs, signal });
    },
    close() {},
  };
}

export function signatureOf(secret: string, body: string, nowMs: number): string {
  const t = Math.floor(nowMs / 1_000);
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
}
