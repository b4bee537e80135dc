import type { ServiceBroker } from 'moleculer';
import { messageOf } from '../../actors/protocol/errors.ts';

export interface Reached<T> {
  /** Ids of the nodes that run models, whether they answered or not. */
  nodes: string[];
  answers: T[];
  /** Nodes that said nothing: not in time, gone meanwhile, or of a version of the program that does not know the question. */
  silent: { node: string; why: string }[];
  /** Nodes where the question itself went wrong. */
  failed: { node: string; reason: string }[];
}

const TIMEOUT = 'REQUEST_TIMEOUT';
const GONE = new Set(['REQUEST_REJECTED', 'SERVICE_NOT_AVAILABLE']);
/** At a node that is there. */
const UNKNOWN = 'SERVICE_NOT_FOUND';

/** Asks each node that runs models. */
export async function askInference<T>(
  broker: ServiceBroker,
  action: string,
  params: object,
  timeoutMs: number,
): Promise<Reached<T>> {
  const known = broker.registry.getNodeList({ onlyAvailable: true, withServices: true }) as unknown as {
    id: string;
    services?: { name: string }[];
  }[];
  const nodes = known.filter(({ services }) => services?.some(({ name }) => name === 'inference')).map(({ id }) => id);
  const reached: Reached<T> = { nodes, answers: [], silent: [], failed: [] };
  const asked = nodes.map(async (node) => {
    try {
      reached.answers.push(await broker.call<T, object>(action, params, { nodeID: node, timeout: timeoutMs }));
    } catch (error) {
      const why = whySilent(error, timeoutMs);
      if (why === null) reached.failed.push({ node, reason: messageOf(error) });
      else reached.silent.push({ node, why });
    }
  });
  await Promise.all(asked);
  return reached;
}

/** Null where it is no silence. */
function whySilent(error: unknown, timeoutMs: number): string | null {
  const { type } = error as { type?: unknown };
  if (type === TIMEOUT) return `did not answer within ${timeoutMs / 1_000} s`;
  if (type === UNKNOWN) return 'runs a version of the program that does not know the question';
  return typeof type === 'string' && GONE.has(type) ? 'went away' : null;
}
