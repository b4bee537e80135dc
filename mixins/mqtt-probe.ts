import { connect, type IConnackPacket } from 'mqtt';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { type TlsSettings, tlsFiles } from './tls.ts';

/** What can be seen of an MQTT broker with the credentials of this node. Nothing stays there: the session is clean. */
export interface MqttFacts {
  /** 5, or 4 for 3.1.1. */
  protocol: 5 | 4;
  connectMs: number;
  /** Null where the broker does not say (3.1.1). */
  sharedSubscriptions: boolean | null;
  maxQos: number;
  maxPacketBytes: number | null;
  /** Filters that it refuses to hand out. */
  refused: string[];
}

const WITHIN_MS = 6_000;

/** Throws `unauthenticated` (the broker refuses us), `unavailable`. */
export async function probeMqtt(url: string, filters: readonly string[], settings: TlsSettings): Promise<MqttFacts> {
  try {
    return await probe(url, filters, settings, 5);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    // 132 and, from brokers of old, 1: this version is not spoken here.
    if (code === 132 || code === 1) return probe(url, filters, settings, 4);
    if (code === 134 || code === 135 || code === 4 || code === 5)
      throw new TwinmeshError('unauthenticated', `the broker refuses the sign-in (${code})`, undefined, {
        cause: error,
      });
    throw new TwinmeshError('unavailable', textOf(error), undefined, { cause: error });
  }
}

async function probe(
  url: string,
  filters: readonly string[],
  settings: TlsSettings,
  protocol: 5 | 4,
): Promise<MqttFacts> {
  const startedAt = performance.now();
  const client = connect(url, {
    ...(/^(mqtts|wss):/.test(url) ? tlsFiles(settings) : {}),
    clientId: `twinmesh-doctor-${process.pid}-${Math.trunc(startedAt)}`,
    protocolVersion: protocol,
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: WITHIN_MS,
    ...(protocol === 5 ? { properties: { sessionExpiryInterval: 0 } } : {}),
  });
  let connack: IConnackPacket;
  try {
    connack = await new Promise<IConnackPacket>((resolve, reject) => {
      client.on('connect', resolve);
      client.on('error', reject);
      client.on('close', () => reject(new Error('the broker closed the connection, or did not answer')));
    });
  } catch (error) {
    client.end(true);
    throw error;
  }
  const connectMs = performance.now() - startedAt;
  const refused: string[] = [];
  try {
    for (const filter of filters) {
      try {
        const [granted] = await client.subscribeAsync(filter, { qos: 0, rh: 2 });
        if (granted !== undefined && granted.qos >= 128) refused.push(filter);
        else await client.unsubscribeAsync(filter);
      } catch {
        refused.push(filter);
      }
    }
  } finally {
    await client.endAsync(true);
  }
  const said = connack.properties;
  return {
    protocol,
    connectMs,
    sharedSubscriptions: protocol === 5 ? said?.sharedSubscriptionAvailable !== false : null,
    maxQos: said?.maximumQoS ?? 2,
    maxPacketBytes: said?.maximumPacketSize ?? null,
    refused,
  };
}

/** A refused connection comes as a bundle of attempts without a sentence of its own. */
function textOf(error: unknown): string {
  const inner = (error as { errors?: unknown[] }).errors?.[0];
  return messageOf(error) || messageOf(inner ?? 'no connection');
}
