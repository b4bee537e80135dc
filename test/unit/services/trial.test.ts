import type { ServiceBroker } from 'moleculer';
import { describe, expect, it } from 'vitest';
import { tryVersion } from '../../../services/models/trial.ts';

/** What several nodes say of one version. */
const tried = { name: 'machine-rul', version: '2.0.0', sha256: 'a'.repeat(64) };

/** By node: why it cannot load the version, null where it can, an Error where it does not answer. */
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
    const { broker } = brokerOf({ one: 'There is no folder.', two: new Error('gone'), three: 'It lies.' });
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
    expect(await tryVersion(brokerOf({ one: new Error('late') }).broker, tried)).toEqual({
      checked: false,
      note: expect.stringMatching(/because one did not answer within 10 s\..*has changed all the same/),
    });
  });
});
