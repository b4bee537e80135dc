import { Counter, Gauge, type Registry } from 'prom-client';

/** Notifications by receiver: names are those of the admin's file. */
export interface NotificationMetrics {
  count(receiver: string, outcome: string, count?: number): void;
}

export function notificationMetrics(
  registry: Registry,
  pausedReceivers: () => readonly { receiver: string; paused: boolean }[],
): NotificationMetrics {
  const registers = [registry];
  const outcomes = new Counter({
    name: 'twinmesh_notifications_total',
    help: 'Notifications of this node: queued, sent, failed (tried again), dead (given up), or not sent because of cooldown, grouped, quiet, full queue, old event.',
    labelNames: ['receiver', 'outcome'],
    registers,
  });
  const paused: Gauge = new Gauge({
    name: 'twinmesh_notifier_paused',
    help: '1 while a receiver is left alone because it failed.',
    labelNames: ['receiver'],
    registers,
    collect() {
      paused.reset();
      for (const { receiver, paused: is } of pausedReceivers()) paused.set({ receiver }, is ? 1 : 0);
    },
  });
  return { count: (receiver, outcome, count = 1) => outcomes.inc({ receiver, outcome }, count) };
}
