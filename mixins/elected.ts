import type { Service } from 'moleculer';

/**
 * Whether this node does what one is to do for all: of the nodes that run the service, the first by name. Two may think so for a
 * moment, or none: what is done has to bear that.
 */
export function isElected({ broker, name }: Pick<Service, 'broker' | 'name'>): boolean {
  const nodes = broker.registry.getServiceList({ onlyAvailable: true }) as { name: string; nodeID: string }[];
  const able = nodes.filter((service) => service.name === name).map(({ nodeID }) => nodeID);
  return able.sort()[0] === broker.nodeID;
}
