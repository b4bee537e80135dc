import moleculer, { type ServiceBroker, type ServiceSchema } from 'moleculer';
import { afterEach, describe, expect, it } from 'vitest';
import { closeParts, holdParts, type PartsSchema, partsMixin, releaseParts } from '../../../mixins/parts.ts';
import type { Parts } from '../../../services/parts.ts';

const brokers: ServiceBroker[] = [];

function newBroker(): ServiceBroker {
  const broker = new moleculer.ServiceBroker({ logger: false, skipProcessEventRegistration: true });
  brokers.push(broker);
  return broker;
}

/** Parts that only know how often they were closed. */
function countedParts() {
  const seen = { opened: 0, closed: 0 };
  const open = async (): Promise<Parts> => {
    seen.opened++;
    return {
      close: async () => {
        seen.closed++;
      },
    } as Parts;
  };
  return { seen, open };
}

afterEach(async () => {
  for (const broker of brokers.splice(0)) await broker.stop();
});

describe('parts of a broker', () => {
  it('are opened once, and closed by the last that leaves', async () => {
    const broker = newBroker();
    const { seen, open } = countedParts();
    const [first, second] = await Promise.all([holdParts(broker, open), holdParts(broker, open)]);
    expect(first).toBe(second);
    await releaseParts(broker);
    expect(seen).toEqual({ opened: 1, closed: 0 });
    await releaseParts(broker);
    expect(seen).toEqual({ opened: 1, closed: 1 });
    await releaseParts(broker);
    expect(seen.closed).toBe(1);
  });

  it('may be tried again after a failure', async () => {
    const broker = newBroker();
    const { seen, open } = countedParts();
    await expect(holdParts(broker, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await holdParts(broker, open);
    expect(seen.opened).toBe(1);
  });

  it('are of one broker alone', async () => {
    const { open } = countedParts();
    const [a, b] = [newBroker(), newBroker()];
    expect(await holdParts(a, open)).not.toBe(await holdParts(b, open));
  });

  it('are closed for everybody when a start failed half-way', async () => {
    const broker = newBroker();
    const { seen, open } = countedParts();
    await holdParts(broker, open);
    await holdParts(broker, open);
    await closeParts(broker);
    expect(seen.closed).toBe(1);
    await releaseParts(broker);
    expect(seen.closed).toBe(1);
    await expect(holdParts(broker, open)).rejects.toThrow(expect.objectContaining({ code: 'unavailable' }));
    expect(seen.opened).toBe(1);
  });

  it('are there before a service starts and until after it has stopped', async () => {
    const broker = newBroker();
    const { seen, open } = countedParts();
    await holdParts(broker, open);
    const trail: string[] = [];
    const service: PartsSchema = {
      name: 'reader',
      mixins: [partsMixin],
      async started() {
        trail.push(`started ${this.parts !== undefined}`);
      },
      async stopped() {
        trail.push(`stopped ${this.parts !== undefined} ${seen.closed}`);
      },
    };
    broker.createService(service as unknown as ServiceSchema);
    await broker.start();
    await releaseParts(broker);
    expect(seen.closed).toBe(0);
    await broker.stop();
    expect(trail).toEqual(['started true', 'stopped true 0']);
    expect(seen.closed).toBe(1);
  });
});
