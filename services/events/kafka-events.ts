import type { EventSink } from '../../actors/runtime/host-api.ts';
import type { KafkaMessageOut } from '../../mixins/kafka-publisher.ts';
import { messagesOf } from './messages.ts';

/** Events of twins that go to Kafka: the topic is the type, the key the twin id. */
export const EVENT_TOPICS: readonly string[] = ['alerts', 'anomaly-detected', 'maintenance-predictions'];

/** Delivered at least once, in order for each twin; `event_id` is stable. */
export function kafkaEvents(publish: (messages: readonly KafkaMessageOut[]) => Promise<void>): EventSink {
  return {
    name: 'kafka',
    async deliver(events) {
      const messages: KafkaMessageOut[] = [];
      for (const event of events) {
        for (const { type, payload } of messagesOf(event)) {
          if (EVENT_TOPICS.includes(type)) messages.push({ topic: type, key: event.twinId, value: payload });
        }
      }
      await publish(messages);
    },
  };
}
