import type { Clock } from '../protocol/clock.ts';
import type { Snapshot, Summary } from '../store/port.ts';
import type { Activation } from './activation.ts';
import { H, M } from './layout.ts';
import type { Part } from './part.ts';
import { encodeSnapshot, SNAPSHOT_SHAPE } from './snapshot.ts';
import { metricsOf } from './state.ts';
import { healthOf } from './turn.ts';

/** What goes into a part when the cut closes: snapshots and summaries of twins as they then are. */

export function addSnapshot(part: Part, activation: Activation, clock: Clock): void {
  part.snapshots.push(snapshotOf(part.shard.shard, activation, clock));
  activation.tail = 0;
  part.shard.dirty.delete(activation);
}

export function snapshotOf(shard: number, activation: Activation, clock: Clock): Snapshot {
  const { state } = activation;
  return {
    shard,
    twin: activation.key,
    twinId: activation.twinId,
    revision: activation.revision,
    shape: SNAPSHOT_SHAPE,
    kindVersion: state.kind.version,
    state: encodeSnapshot(state, activation.counts),
    // before the first reading nothing is too old to come
    floorAt: state.n[H.ACCEPTED] > 0 ? state.n[H.FLOOR] : -1,
    wakeAt: state.n[H.WAKE] === 0 ? null : state.n[H.WAKE],
    receivedAt: clock.now(),
  };
}

export function addSummary(part: Part, activation: Activation, now: number): void {
  const summary = summaryOf(part.shard.shard, activation);
  summary.known = activation.summarised >= 0;
  part.summaries.push(summary);
  activation.summarised = activation.revision;
  activation.summarisedAt = now;
}

export function summaryOf(shard: number, activation: Activation): Summary {
  const { state } = activation;
  const { n, layout } = state;
  const reported: Record<string, number> = {};
  const names = metricsOf(state);
  for (let i = 0; i < names.length; i++) {
    const m = layout.firstMetric + i * layout.metricBlock;
    if (n[m + M.COUNT] > 0) reported[names[i]] = n[m + M.LAST];
  }
  return {
    shard,
    twin: activation.key,
    twinId: activation.twinId,
    kind: state.kind.kind,
    revision: activation.revision,
    at: n[H.ACCEPTED] > 0 ? n[H.AT] : null,
    receivedAt: n[H.RECEIVED] > 0 ? n[H.RECEIVED] : n[H.CREATED],
    health: healthOf(state),
    online: n[H.ONLINE] === 1,
    retired: n[H.RETIRED] === 1,
    reported,
    attributes: state.aside.attributes,
    alerts: n[H.RAISED],
  };
}
