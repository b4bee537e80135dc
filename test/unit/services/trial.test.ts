import { Errors, type ServiceBroker } from 'moleculer';
import { describe, expect, it } from 'vitest';
import { tryVersion } from '../../../services/models/trial.ts';

/** What several nodes say of one version. */
const tried = { name: 'machine-rul', version: '2.0.0', sha256: 'a'.repeat(64) };

const late = new Errors.RequestTimeoutError({ action: 'inference.probe', nodeID: 'x' });
const old = new Errors.ServiceNotFoundError({ action: 'inference.probe', nodeID: 'x' });
const gone = new Errors.RequestRejectedError({ action: 'inference.probe', nodeID: 'x' });

/** By node: why it cannot load the version, null where it can, an Error where there is no such answer. */
function brokerOf(nodes: Record<string, string | null | Error>) {
  const asked: unknown[] = [];
  const services = (id: string) => [{ name: id.startsWith('door') ? 'gateway' : 'inference' }];
  const broker = {
    registry: { getNodeList: () => Object.keys(nodes).map((id) => ({ id, services: services(id) })) },
    async call(action: string, params: object, { nodeID, timeout }: { nodeID: string; timeout: number }) {
      asked.push([nodeID, action, params]);
      expect(timeout).toBeGreaterThan(0);
      const reason = nodes[nodeID];
      if (reason instanceof Error) throw reason;
      return { node: nodeID, reason };
    },
  };
  return { broker: broker as unknown as ServiceBroker, asked };
}

describe('a version that is tried', () => {
  it('by every node that runs models, and loads', async () => {
    const { broker, asked } = brokerOf({ one: null, two: null, 'door-1': 'is not asked' });
    expect(await tryVersion(broker, tried)).toEqual({ checked: true, note: null });
    expect(asked).toEqual(['one', 'two'].map((node) => [node, 'inference.probe', tried]));
  });

  it('is refused where none of those that answer can load it', async () => {
    const { broker } = brokerOf({ one: 'There is no folder.', two: late, three: 'It lies.' });
    await expect(tryVersion(broker, tried)).rejects.toMatchObject({
      code: 'bad_model',
      message: expect.stringMatching(
        /^No node can load machine-rul@2\.0\.0, and the register stays as it is\. one: There is no folder\. three: It lies\. Mend the folder machine-rul\/2\.0\.0/,
      ),
    });
  });

  it('passes where one can, and the others are named', async () => {
    const { broker } = brokerOf({ one: null, two: 'There is no folder.' });
    expect(await tryVersion(broker, tried)).toEqual({
      checked: true,
      note: 'Not all nodes can load machine-rul@2.0.0. two: There is no folder.',
    });
  });

  it('passes unchecked where nobody is there, or nobody answers', async () => {
    expect(await tryVersion(brokerOf({ 'door-1': null }).broker, tried)).toEqual({
      checked: false,
      note: expect.stringMatching(/was not tried, because no node with the role inference is there\./),
    });
    expect(await tryVersion(brokerOf({ one: late, two: old, three: gone }).broker, tried)).toEqual({
      checked: false,
      note: 'machine-rul@2.0.0 was not tried, because one did not answer within 10 s, two runs a version of the program that does not know the question, three went away.',
    });
  });

  it('is not put live by a trial that failed: the reason is told', async () => {
    const fault = Object.assign(new Error('EIO: i/o error, scandir models'), { code: 500 });
    await expect(tryVersion(brokerOf({ one: fault, two: late }).broker, tried)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(
        /could not be tried, and the register stays.*one: the trial failed: EIO: i\/o error/,
      ),
    });
    await expect(tryVersion(brokerOf({ one: fault, two: 'It lies.' }).broker, tried)).rejects.toMatchObject({
      code: 'bad_model',
      message: expect.stringMatching(/two: It lies\. one: the trial failed: EIO/),
    });
    expect(await tryVersion(brokerOf({ one: fault, two: null }).broker, tried)).toEqual({
      checked: true,
      note: 'Not all nodes can load machine-rul@2.0.0. one: the trial failed: EIO: i/o error, scandir models',
    });
  });
});
