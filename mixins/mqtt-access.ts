import type { Speaker } from '../actors/ingress/speaker.ts';
import { twinIdOf } from '../actors/protocol/twin-id.ts';

/** Who may hear what on the embedded broker. What may be said is decided by ingress, reading by reading. */

/** Whether a speaker may subscribe to a filter. `$SYS` names clients and addresses: it is for admins. */
export function maySubscribe(speaker: Speaker, filter: string): boolean {
  const topic = filter.startsWith('$share/') ? filter.split('/').slice(2).join('/') : filter;
  if (topic.startsWith('$')) return speaker.role === 'admin';
  if (speaker.role !== 'device') return true;
  const levels = topic.split('/');
  if (levels[0] !== 'twins' || levels.length < 4) return false;
  if (speaker.gateway === true) return true;
  // Wildcards in the place of kind or id would reach others; `twins/<kind>/<id>/…` is the device's own.
  return speaker.twinId === twinIdOf(levels[1], levels[2]);
}

/** Whether a message may be handed to a speaker who once subscribed to it. */
export function mayReceive(speaker: Speaker, topic: string): boolean {
  return maySubscribe(speaker, topic);
}
