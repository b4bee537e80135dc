import mqtt, { type MqttClient } from 'mqtt';
import { NodeProcess, whereabouts } from '../test/e2e/node-process.ts';
import { temporaryFolder } from './temporary.ts';

/** A whole node in a process of its own, as `npm start` runs it, with nothing in it but what the bench sends. */
export interface BenchNode {
  http: string;
  key: string;
  /** A connection to its broker. */
  connect(clientId: string): Promise<MqttClient>;
  /** GET with the admin key; the body, parsed. */
  get<T>(path: string): Promise<T>;
  stop(): Promise<void>;
}

export async function startNode(env: Record<string, string> = {}): Promise<BenchNode> {
  const folder = temporaryFolder('node');
  const node = NodeProcess.start(folder.path, {
    DEMO: 'off',
    RATE_LIMIT_PER_MINUTE: '10000000',
    LOG_LEVEL: 'warn',
    ...env,
  });
  const { http, key, mqttPort } = await whereabouts(node);
  if (key === null) throw new Error('the node printed no key');
  const headers = { authorization: `Bearer ${key}` };
  return {
    http,
    key,
    async connect(clientId) {
      return mqtt.connectAsync(`mqtt://127.0.0.1:${mqttPort}`, {
        clientId,
        username: clientId,
        password: key,
        clean: true,
      });
    },
    async get<T>(path: string) {
      const response = await fetch(`${http}${path}`, { headers });
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return ((await response.json()) as { data: T }).data;
    },
    async stop() {
      node.signal('SIGTERM');
      await node.ended();
      folder.remove();
    },
  };
}
