import { afterEach, describe, expect, it } from 'vitest';
import { MqttBroker, type MqttMessage } from '../../../mixins/mqtt-broker.ts';
import { MqttCourier } from '../../../mixins/mqtt-courier.ts';

const KEY = { username: 'replay', password: 'good' };
const speaker = { keyId: 'k', name: 'replay', role: 'device', gateway: true } as const;
let broker: MqttBroker | undefined;
let courier: MqttCourier | undefined;

afterEach(async () => {
  await courier?.close();
  await broker?.close();
});

async function open(
  onMessage: (message: MqttMessage, done: (fate: 'stored' | 'refused' | 'lost') => void) => void,
  port = 0,
): Promise<string> {
  broker = new MqttBroker({
    host: '127.0.0.1',
    port,
    wsPort: null,
    authenticate: async (_, password) => (password === KEY.password ? speaker : null),
    onMessage,
  });
  await broker.listen();
  return `mqtt://127.0.0.1:${broker.address.port}`;
}

describe('the courier', () => {
  it('knows of every message whether it was acknowledged, and keeps to its window', async () => {
    let most = 0;
    let waiting = 0;
    const url = await open((_, done) => {
      most = Math.max(most, ++waiting);
      setTimeout(() => {
        waiting--;
        done('stored');
      }, 1);
    });
    courier = await MqttCourier.connect({ url, clientId: 'c', ...KEY, maxInFlight: 10 });
    for (let i = 0; i < 200; i++) {
      await courier.send('twins/mote/1/telemetry', String(i));
      expect(courier.inFlight).toBeLessThanOrEqual(10);
    }
    await courier.settled();
    expect([courier.sent, courier.acknowledged, courier.failed]).toEqual([200, 200, 0]);
    expect(most).toBeGreaterThan(1);
  });

  it('sends again what had no acknowledgement when the connection broke', async () => {
    const heard: string[] = [];
    let broken = false;
    const url = await open(({ payload }, done) => {
      if (heard.length === 50 && !broken) {
        broken = true;
        done('lost');
        return;
      }
      heard.push(Buffer.from(payload).toString());
      done('stored');
    });
    courier = await MqttCourier.connect({ url, clientId: 'c', ...KEY });
    for (let i = 0; i < 200; i++) await courier.send('twins/mote/1/telemetry', String(i));
    await courier.settled();
    expect(broken).toBe(true);
    expect([courier.acknowledged, courier.failed]).toEqual([200, 0]);
    expect(new Set(heard).size).toBe(200);
  });

  it('gives up when the connection does not come back, and says what failed', async () => {
    const url = await open((message, done) => {
      if (Buffer.from(message.payload).toString() === '0') done('stored');
    });
    courier = await MqttCourier.connect({ url, clientId: 'c', ...KEY, awayMs: 200 });
    for (let i = 0; i < 5; i++) await courier.send('twins/mote/1/telemetry', String(i));
    await expect.poll(() => courier?.acknowledged).toBe(1);
    await broker?.close();
    await courier.settled();
    expect([courier.sent, courier.acknowledged, courier.failed]).toEqual([5, 1, 4]);
    await expect(courier.send('t', 'x')).rejects.toThrow('MQTT: the connection did not come back.');
  });

  it('stops waiting when it is told to', async () => {
    const url = await open(() => undefined);
    courier = await MqttCourier.connect({ url, clientId: 'c', ...KEY });
    await courier.send('twins/mote/1/telemetry', 'x');
    await courier.settled(AbortSignal.timeout(50));
    expect(courier.inFlight).toBe(1);
  });

  it('says that the key is wrong, or that nobody listens', async () => {
    const url = await open((_, done) => done('stored'));
    await expect(MqttCourier.connect({ url, clientId: 'c', username: 'x', password: 'bad' })).rejects.toMatchObject({
      code: 'unauthenticated',
    });
    await broker?.close();
    await expect(MqttCourier.connect({ url, clientId: 'c', ...KEY })).rejects.toMatchObject({ code: 'unavailable' });
  });
});
