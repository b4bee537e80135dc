import { resolve } from 'node:path';
import type { Context } from 'moleculer';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { DriftTold } from './drift/message.ts';
import type { CallMeta } from './gateway/caller.ts';
import { listOf, MAYBE_TIME, PAGE_PARAMS, TEXT, TIME } from './gateway/list-schema.ts';
import { TWIN_ID } from './history/span-params.ts';
import { notificationMetrics } from './metrics/notifications.ts';
import { driftTidings } from './notify/drift-notice.ts';
import { listNotifications, type NotificationQuery, queueStates } from './notify/list.ts';
import { Notifying } from './notify/notifying.ts';

/**
 * Telling people and their tools: events of the twins of this node that the rules of NOTIFIERS_FILE are about become
 * notifications, and these are delivered by whichever host claims them.
 */
interface Own {
  notifying: Notifying | undefined;
  stopped: boolean;
}

const MAYBE_TEXT = { type: ['string', 'null'] };
const NOTIFIER = {
  type: 'object',
  required: ['name', 'type', 'state', 'rules', 'waiting', 'dead'],
  properties: {
    name: TEXT,
    type: { type: 'string', enum: ['webhook', 'slack', 'pagerduty', 'email'] },
    state: { type: 'string', enum: ['resting', 'delivering', 'paused'], description: 'On the node that answers.' },
    failures: { type: 'integer', description: 'There, since the last success.' },
    paused_until: MAYBE_TIME,
    rules: { type: 'array', items: TEXT, description: 'Rules that tell it.' },
    waiting: { type: 'integer', description: 'Of all nodes.' },
    oldest_at: { ...MAYBE_TIME, description: 'Since when the oldest waits.' },
    dead: { type: 'integer', description: 'Given up, and still in the list.' },
    sent_at: { ...MAYBE_TIME, description: 'Of the newest that was delivered.' },
    last_error: MAYBE_TEXT,
    file_fault: { ...MAYBE_TEXT, description: 'Why the file as it is now is not in force.' },
  },
};
const NOTIFICATION = {
  type: 'object',
  required: ['id', 'receiver', 'rule', 'action', 'severity', 'state', 'attempts', 'title', 'created_at'],
  properties: {
    id: { type: 'integer' },
    receiver: TEXT,
    event_id: MAYBE_TEXT,
    rule: TEXT,
    thread: { ...TEXT, description: 'The alert, or whatever goes on.' },
    action: { type: 'string', enum: ['trigger', 'acknowledge', 'resolve'] },
    twin_id: MAYBE_TEXT,
    severity: { type: 'string', enum: ['info', 'warning', 'high', 'critical'] },
    state: { type: 'string', enum: ['waiting', 'sent', 'dead', 'dropped'] },
    held: { type: 'boolean', description: 'Waits for the end of quiet hours, or of a cooldown.' },
    attempts: { type: 'integer' },
    next_at: MAYBE_TIME,
    last_error: MAYBE_TEXT,
    title: TEXT,
    created_at: TIME,
    done_at: MAYBE_TIME,
  },
};

const notifiers: PartsSchema<Own> = {
  name: 'notifiers',
  metadata: { role: 'host' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/notifiers',
      role: 'viewer',
      params: {},
      openapi: {
        summary: 'Receivers of notifications, and how they do',
        description: 'Empty without NOTIFIERS_FILE. Addresses and secrets are not shown.',
        tags: ['notifiers'],
        response: listOf(NOTIFIER),
      },
      async handler() {
        const { notifying } = this;
        if (notifying === undefined) return { items: [], nextCursor: null };
        const { receivers, rules } = notifying.notifiers;
        const queues = await queueStates(this.parts.sql, [...receivers.keys()]);
        const items = [...receivers.values()].map(({ name, type }) => {
          const { state, failures, pausedUntilMs } = notifying.stateOf(name);
          const tells = rules.filter(
            (rule) => rule.receivers.includes(name) || rule.escalate.some((step) => step.receivers.includes(name)),
          );
          return {
            name,
            type,
            state,
            failures,
            paused_until: pausedUntilMs === null ? null : new Date(pausedUntilMs).toISOString(),
            rules: tells.map((rule) => rule.name),
            ...queues.get(name),
            file_fault: notifying.fault,
          };
        });
        return { items, nextCursor: null };
      },
    },

    test: {
      rest: 'POST /api/v1/notifiers/:name/test',
      role: 'operator',
      params: { name: { type: 'string', max: 64, description: 'Name in NOTIFIERS_FILE.', example: 'ops-chat' } },
      openapi: {
        summary: 'Send a receiver a test message',
        description: 'At once, beside its queue. Answers whether the receiver took it, and if not why.',
        tags: ['notifiers'],
        response: {
          type: 'object',
          required: ['delivered', 'elapsed_ms', 'error'],
          properties: { delivered: { type: 'boolean' }, elapsed_ms: { type: 'number' }, error: MAYBE_TEXT },
        },
      },
      async handler(ctx: Context<{ name: string }, CallMeta>) {
        const { notifying } = this;
        if (notifying === undefined) throw new TwinmeshError('not_found', 'No NOTIFIERS_FILE is set on this node.');
        notifying.stateOf(ctx.params.name);
        const { clock } = this.parts;
        const startedAt = clock.monotonic();
        const error = await notifying
          .test(ctx.params.name, ctx.meta.user?.name ?? 'inside')
          .then(() => null, messageOf);
        return { delivered: error === null, elapsed_ms: Math.round(clock.monotonic() - startedAt), error };
      },
    },

    notifications: {
      rest: 'GET /api/v1/notifications',
      role: 'viewer',
      params: {
        receiver: { type: 'string', max: 64, optional: true, description: 'Only to this one.', example: 'ops-chat' },
        state: {
          type: 'string',
          max: 60,
          optional: true,
          description: 'waiting, sent, dead, dropped, separated by commas.',
          example: 'waiting,dead',
        },
        twinId: { ...TWIN_ID, optional: true },
        ...PAGE_PARAMS,
      },
      openapi: {
        summary: 'Notifications, newest first',
        description:
          'What receivers were told, what waits, what was given up (`dead`) and what was over before it was told (`dropped`).',
        tags: ['notifiers'],
        response: listOf(NOTIFICATION),
      },
      handler(ctx: Context<NotificationQuery>) {
        return listNotifications(this.parts.sql, ctx.params);
      },
    },

    /** Of the drift of a model. Answers when what follows is written down; false where this node tells nobody. Not over HTTP. */
    drift: {
      visibility: 'public',
      params: { told: { type: 'object' } },
      async handler(ctx: Context<{ told: DriftTold }>): Promise<boolean> {
        if (this.stopped) throw new TwinmeshError('unavailable', 'The node is stopping.');
        if (this.notifying === undefined) return false;
        await this.notifying.tell([driftTidings(ctx.params.told)]);
        return true;
      },
    },
  },

  async started() {
    this.stopped = false;
    const { settings, sql, clock, logger, metrics, host } = this.parts;
    if (settings.notifiersFile === null) return;
    const counts = notificationMetrics(metrics.registry, () =>
      [...(this.notifying?.notifiers.receivers.keys() ?? [])].map((receiver) => ({
        receiver,
        paused: this.notifying?.stateOf(receiver).state === 'paused',
      })),
    );
    const notifying = new Notifying({
      file: resolve(settings.notifiersFile),
      sql,
      clock,
      node: settings.nodeId,
      logger,
      count: counts.count,
    });
    await notifying.start();
    this.notifying = notifying;
    host.addSink(notifying.sink);
  },

  async stopped() {
    this.stopped = true;
    await this.notifying?.stop();
  },
};

export default notifiers;
