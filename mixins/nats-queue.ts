import type { NatsConnection } from 'nats';

export type { NatsConnection };

/** A message of core NATS: delivered once at most, so that its sender asks for an answer where it matters. */
export interface QueueMessage {
  subject: string;
  payload: Uint8Array;
  /** Answers the sender; null where it asked for no answer. */
  answer: ((text: string) => void) | null;
}

export interface QueueSubscription {
  /** Takes nothing new; what has arrived is handed out first. */
  close(): Promise<void>;
}

/** Each message goes to one member of the queue. It is subscribed anew after every loss of the connection. */
export function followQueue(
  connection: NatsConnection,
  subject: string,
  queue: string,
  onMessage: (message: QueueMessage) => void,
): QueueSubscription {
  const subscription = connection.subscribe(subject, {
    queue,
    callback: (error, message) => {
      if (error) return;
      const answer = message.reply ? (text: string) => void message.respond(text) : null;
      onMessage({ subject: message.subject, payload: message.data, answer });
    },
  });
  return {
    async close() {
      if (!connection.isClosed()) await subscription.drain().catch(() => undefined);
    },
  };
}
