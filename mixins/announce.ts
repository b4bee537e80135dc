import type { ServiceBroker } from 'moleculer';

/**
 * Tells the other nodes at once what this one offers. Moleculer tells it a second after the last service has started, and until
 * then nobody calls them, nor do events reach them: a node that owns twins meanwhile is asked for them in vain. What is sent over
 * the same connection afterwards comes after it.
 */
export async function announce(broker: ServiceBroker): Promise<void> {
  const { discoverer } = broker.registry as unknown as { discoverer: { sendLocalNodeInfo(): Promise<void> } };
  await discoverer.sendLocalNodeInfo();
}
