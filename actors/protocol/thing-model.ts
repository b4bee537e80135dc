import { SEVERITIES } from './entry.ts';
import type { Kind } from './kind.ts';

/**
 * The W3C WoT Thing Model 1.1 of a kind (https://www.w3.org/TR/wot-thing-description11/#thing-model): one property a
 * metric, the commands as actions, what the fold emits as events. `kind.thing` is merged over it, one level deep into
 * properties, actions and events, so that a kind can add but need not repeat.
 */
export function thingModel(kind: Kind): Record<string, unknown> {
  const own: Record<string, unknown> = kind.thing ?? {};
  const model: Record<string, unknown> = {
    '@context': 'https://www.w3.org/2022/wot/td/v1.1',
    '@type': 'tm:ThingModel',
    id: `urn:twinmesh:${kind.kind}:{{ASSET_ID}}`,
    title: kind.title,
    description: kind.description,
    version: { model: `${kind.version}.0.0` },
    properties: properties(kind),
    actions: {
      setDesired: {
        title: 'Ask the asset to take other values (JSON merge patch of its desired state)',
        input: { type: 'object' },
        safe: false,
        idempotent: true,
      },
      recordMaintenance: {
        title: 'Record work that was done',
        input: {
          type: 'object',
          properties: { work: { type: 'string' }, at: { type: 'string', format: 'date-time' } },
          required: ['work'],
        },
        safe: false,
        idempotent: false,
      },
    },
    events: {
      anomalyDetected: {
        title: 'A value that the statistics of its window do not explain',
        data: {
          type: 'object',
          properties: {
            field: { type: 'string', ...(kind.openMetrics ? {} : { enum: [...kind.metricNames] }) },
            value: { type: 'number' },
            severity: { type: 'string', enum: ['low', 'medium', 'high'] },
            reason: { type: 'string' },
          },
        },
      },
      alertRaised: alert(kind, 'A rule has been broken for as long as it holds'),
      alertCleared: alert(kind, 'A broken rule is kept again'),
    },
  };
  for (const [name, value] of Object.entries(own)) {
    const mine = model[name];
    model[name] = isObject(mine) && isObject(value) ? { ...mine, ...value } : value;
  }
  return model;
}

function properties(kind: Kind): Record<string, unknown> {
  if (kind.openMetrics) {
    return {
      reported: {
        title: 'Last value of each metric the device has sent',
        type: 'object',
        readOnly: true,
        observable: true,
      },
    };
  }
  const out: Record<string, unknown> = {};
  for (const name of kind.metricNames) {
    const { title, unit, min, max } = kind.metrics[name];
    out[name] = {
      title: title ?? name,
      type: 'number',
      unit,
      minimum: min,
      maximum: max,
      readOnly: true,
      observable: true,
    };
  }
  return out;
}

function alert(kind: Kind, title: string): Record<string, unknown> {
  return {
    title,
    data: {
      type: 'object',
      properties: {
        rule: { type: 'string', enum: kind.rules.map((rule) => rule.name) },
        severity: { type: 'string', enum: [...SEVERITIES] },
        message: { type: 'string' },
      },
    },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
