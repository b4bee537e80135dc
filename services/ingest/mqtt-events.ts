import { parseTwinId } from '../../actors/protocol/twin-id.ts';
import type { EventSink } from '../../actors/runtime/host-api.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { deltaPayload, messagesOf } from '../events/messages.ts';

/** Events of twins as MQTT messages. Delivered at least once; `event_id` is stable. */
export type Publish = (topic: string, payload: string, options: { retain: boolean; qos: 0 | 1 }) => Promise<void>;

export function mqttEvents(publish: Publish): EventSink {
  return {
    name: 'mqtt',
    async deliver(events) {
      await Promise.all(
        events.flatMap((event) =>
          messagesOf(event).map((m) => publish(m.topic, m.payload, { qos: 1, retain: m.retain })),
        ),
      );
    },
  };
}

/** The embedded broker keeps retained messages in memory: after a start the deltas that stand are published anew. */
export async function publishDeltas(sql: Sql, publish: Publish): Promise<number> {
  const rows = await sql.query<{ twinId: string; delta: unknown }>(
    `select distinct on (e.twin) e.twin_id as "twinId", e.body->'delta' as delta
     from events e join twins t on t.twin = e.twin
     where e.type = 'desired.changed' and not t.retired order by e.twin, e.revision desc`,
  );
  let published = 0;
  for (const { twinId, delta } of rows) {
    const payload = deltaPayload(delta);
    if (payload === '') continue;
    const { kind, id } = parseTwinId(twinId);
    await publish(`twins/${kind}/${id}/desired/delta`, payload, { retain: true, qos: 1 });
    published++;
  }
  return published;
}
