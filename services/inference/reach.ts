import type { ServiceBroker } from 'moleculer';

export interface Reached<T> {
  /** Ids of the nodes that run models, whether they answered or not. */
  nodes: string[];
  answers: T[];
}

/** Asks each node that runs models; one that does not answer in time, or not at all, is left out. */
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
  const asked = nodes.map((id) =>
    broker.call<T, object>(action, params, { nodeID: id, timeout: timeoutMs }).then(
      (answer) => [answer],
      () => [],
    ),
  );
  return { nodes, answers: (await Promise.all(asked)).flat() };
}
