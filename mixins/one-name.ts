import type { Middleware, ServiceBroker } from 'moleculer';

/**
 * Two processes of one name in a mesh: Moleculer ends the one that hears of the other first, which is the one that was there.
 * Whoever starts a node under a name that is taken would stop the node that works. Here that one stays, says so to the
 * newcomer, and the newcomer ends. Of two that came together both end, and of two that have run for long, since they could not
 * hear each other, the one that is answered.
 */
export interface OneNameOptions {
  /** A node that has run for so long stays. */
  settledMs?: number;
}

const CONFLICT = /nodeID conflict/;
const SETTLED_MS = 5_000;
/** Whoever still speaks so soon after it was told has run for long as well. */
const ANSWER_MS = 1_000;

interface Ending {
  fatal(message: string, error?: unknown, needExit?: boolean): void;
  registry: { discoverer: { sendLocalNodeInfo(): Promise<void> } };
}

export function oneName({ settledMs = SETTLED_MS }: OneNameOptions = {}): Middleware {
  let startedAt = Number.POSITIVE_INFINITY;
  let toldAt = Number.NEGATIVE_INFINITY;
  return {
    name: 'OneName',
    created(created: ServiceBroker) {
      const broker = created as unknown as Ending;
      const { nodeID } = created;
      const end = broker.fatal.bind(created);
      broker.fatal = (message, ...rest) => {
        const now = performance.now();
        if (!CONFLICT.test(message)) end(message, ...rest);
        else if (now - startedAt < settledMs || startedAt > now)
          end(`Another node of the mesh has the name ${nodeID}: give each its own NODE_ID.`, ...rest);
        else if (now - toldAt < ANSWER_MS) end(`Another node of the name ${nodeID} is back in the mesh.`, ...rest);
        else {
          toldAt = now;
          created.logger.error(`Another process came under the name of this node, ${nodeID}; it has to end.`);
          void broker.registry.discoverer.sendLocalNodeInfo().catch(() => undefined);
        }
      };
    },
    async started() {
      startedAt = performance.now();
    },
  } as unknown as Middleware;
}
