import type { Aedes } from 'aedes';

/** The memory of aedes keeps without bound what waits for sessions that are away; a full one takes no more. */
export function boundQueues(aedes: Aedes, maxQueued: number, onDropped: () => void): void {
  interface Queues {
    outgoingEnqueueCombi(subscriptions: { clientId: string }[], packet: unknown): Promise<void>;
    outgoingClearMessageId(client: { id: string }, packet: unknown): Promise<unknown>;
  }
  const { persistence } = aedes as unknown as { persistence: Queues };
  const queued = new Map<string, number>();
  const enqueue = persistence.outgoingEnqueueCombi.bind(persistence);
  const clear = persistence.outgoingClearMessageId.bind(persistence);
  persistence.outgoingEnqueueCombi = (subscriptions, packet) => {
    const taking = subscriptions.filter(({ clientId }) => {
      const count = queued.get(clientId) ?? 0;
      if (count >= maxQueued) onDropped();
      else queued.set(clientId, count + 1);
      return count < maxQueued;
    });
    return taking.length === 0 ? Promise.resolve() : enqueue(taking, packet);
  };
  persistence.outgoingClearMessageId = async (client, packet) => {
    const cleared = await clear(client, packet);
    const count = queued.get(client.id) ?? 0;
    if (cleared !== undefined && count > 1) queued.set(client.id, count - 1);
    else if (cleared !== undefined) queued.delete(client.id);
    return cleared;
  };
}
