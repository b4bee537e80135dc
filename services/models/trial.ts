import type { ServiceBroker } from 'moleculer';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Probed } from '../inference/node.ts';
import { askInference } from '../inference/reach.ts';
import type { RegisteredVersion } from './register.ts';

/** What the nodes that run models say of a version before the register is changed to it. */
export interface Trial {
  /** Whether a node has loaded it; false where none is there, or none answered. */
  checked: boolean;
  /** What whoever changes the register has to know, in a sentence; null: nothing. */
  note: string | null;
}

/** A node that is busy with telemetry loads a model within a second. */
const ANSWER_MS = 10_000;

/** Throws bad_model where nodes answered and not one of them can load it; unavailable where all there is are trials that failed. */
export async function tryVersion(broker: ServiceBroker, tried: RegisteredVersion): Promise<Trial> {
  const { name, version, sha256 } = tried;
  const id = `${name}@${version}`;
  const params = { name, version, sha256 };
  const { nodes, answers, silent, failed } = await askInference<Probed>(broker, 'inference.probe', params, ANSWER_MS);
  if (answers.length === 0 && failed.length === 0) {
    const why =
      nodes.length === 0
        ? 'no node with the role inference is there'
        : silent.map(({ node, why }) => `${node} ${why}`).join(', ');
    return { checked: false, note: `${id} was not tried, because ${why}.` };
  }
  const refusing = answers.filter(({ reason }) => reason !== null);
  const told = [
    ...refusing.map(({ node, reason }) => `${node}: ${reason}`),
    ...failed.map(({ node, reason }) => `${node}: the trial failed: ${reason}`),
  ].join(' ');
  if (answers.length === 0)
    throw new TwinmeshError(
      'unavailable',
      `${id} could not be tried, and the register stays as it is. ${told} Mend that and try again.`,
    );
  if (refusing.length === answers.length)
    throw new TwinmeshError(
      'bad_model',
      `No node can load ${id}, and the register stays as it is. ${told} Mend the folder ${name}/${version} and try again (npm run -s models -- check DIR loads a folder), or give it a new version where the file has to change.`,
      { refused: refusing },
    );
  return { checked: true, note: told === '' ? null : `Not all nodes can load ${id}. ${told}` };
}
