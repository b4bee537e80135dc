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

/** Throws bad_model where nodes answered and not one of them can load it. */
export async function tryVersion(broker: ServiceBroker, tried: RegisteredVersion): Promise<Trial> {
  const { name, version, sha256 } = tried;
  const id = `${name}@${version}`;
  const params = { name, version, sha256 };
  const { nodes, answers } = await askInference<Probed>(broker, 'inference.probe', params, ANSWER_MS);
  if (answers.length === 0) {
    const why =
      nodes.length === 0
        ? 'no node with the role inference is there'
        : `${nodes.join(', ')} did not answer within ${ANSWER_MS / 1_000} s`;
    const note = `${id} was not tried, because ${why}. The register has changed all the same; GET /api/v1/models says what becomes of it.`;
    return { checked: false, note };
  }
  const refusing = answers.filter(({ reason }) => reason !== null);
  const told = refusing.map(({ node, reason }) => `${node}: ${reason}`).join(' ');
  if (refusing.length === answers.length)
    throw new TwinmeshError(
      'bad_model',
      `No node can load ${id}, and the register stays as it is. ${told} Mend the folder ${name}/${version} and try again (npm run -s models -- check DIR loads a folder), or give it a new version where the file has to change.`,
      { refused: refusing },
    );
  return { checked: true, note: refusing.length === 0 ? null : `Not all nodes can load ${id}. ${told}` };
}
