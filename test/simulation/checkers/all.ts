import type { Checker } from '../checker.ts';
import type { Cluster } from '../cluster.ts';
import { Alerts } from './alerts.ts';
import { Commands } from './commands.ts';
import { OneWriter } from './p1-one-writer.ts';
import { NothingLost } from './p2-nothing-lost.ts';
import { NothingTwice } from './p3-nothing-twice.ts';
import { ReplayEqualsLive } from './p4-replay-equals-live.ts';
import { TelemetryNeverWaits } from './p5-telemetry-never-waits.ts';
import { Predictions } from './predictions.ts';
import { Progress } from './progress.ts';
import { Reads } from './reads.ts';
import { Rolling } from './rolling.ts';
import { Sinks } from './sinks.ts';

export function checkers(cluster: Cluster): Checker[] {
  return [
    new OneWriter(cluster),
    new NothingLost(cluster),
    new NothingTwice(cluster),
    new ReplayEqualsLive(cluster),
    new TelemetryNeverWaits(cluster),
    new Predictions(cluster),
    new Progress(cluster),
    new Rolling(cluster),
    new Alerts(cluster),
    new Sinks(cluster),
    new Commands(cluster),
    new Reads(cluster),
  ];
}
