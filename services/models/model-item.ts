import { MAYBE_TIME, TEXT, TIME } from '../gateway/list-schema.ts';
import type { InferenceNode } from '../inference/node.ts';
import type { RegisteredModel } from './register.ts';

/** A version of a model as the API shows it: what the register says, and what the nodes do with it. */
export interface ModelItem extends RegisteredModel {
  /** Nodes that have it loaded, and as what. */
  loaded: { node: string; as: 'live' | 'shadow' }[];
  /** Nodes that refuse it, and why. */
  refused: { node: string; reason: string }[];
}

export function modelItem(model: RegisteredModel, nodes: readonly InferenceNode[]): ModelItem {
  const { name, version } = model;
  const loaded: ModelItem['loaded'] = [];
  for (const node of nodes)
    for (const entry of node.loaded) {
      if (entry.name !== name) continue;
      if (entry.live === version) loaded.push({ node: node.node, as: 'live' });
      if (entry.shadow === version) loaded.push({ node: node.node, as: 'shadow' });
    }
  const refused = nodes.flatMap((node) =>
    node.refused
      .filter((refusal) => refusal.name === name && refusal.version === version)
      .map(({ reason }) => ({ node: node.node, reason })),
  );
  return { ...model, loaded, refused };
}

/** What nodes found in folders and refuse, and nobody has registered: it never loaded. */
export function strangers(models: readonly RegisteredModel[], nodes: readonly InferenceNode[]) {
  const known = new Set(models.map(({ name, version }) => `${name}@${version}`));
  return nodes.flatMap(({ node, refused }) =>
    refused.filter(({ name, version }) => !known.has(`${name}@${version}`)).map((refusal) => ({ node, ...refusal })),
  );
}

const MAYBE_TEXT = { type: ['string', 'null'] };
const STRANGER = {
  type: 'object',
  required: ['node', 'name', 'version', 'reason'],
  properties: { node: TEXT, name: TEXT, version: TEXT, reason: TEXT },
};

export const MODEL_ITEM = {
  type: 'object',
  required: ['name', 'version', 'type', 'kind', 'status', 'registeredAt', 'loaded', 'refused'],
  properties: {
    name: TEXT,
    version: TEXT,
    type: { type: 'string', enum: ['regression', 'anomaly', 'probability', 'classification', 'forecast', 'cluster'] },
    kind: TEXT,
    status: { type: 'string', enum: ['candidate', 'shadow', 'live', 'retired'] },
    sha256: { type: 'string', description: 'Of model.onnx.' },
    source: TEXT,
    registeredAt: TIME,
    promotedAt: MAYBE_TIME,
    promotedBy: MAYBE_TEXT,
    replaced: { ...MAYBE_TEXT, description: 'The version before it: a rollback goes there.' },
    reason: MAYBE_TEXT,
    metrics: { type: 'array', items: { type: 'object' }, description: 'Scores of the card.' },
    loaded: {
      type: 'array',
      items: {
        type: 'object',
        required: ['node', 'as'],
        properties: { node: TEXT, as: { type: 'string', enum: ['live', 'shadow'] } },
      },
    },
    refused: {
      type: 'array',
      items: { type: 'object', required: ['node', 'reason'], properties: { node: TEXT, reason: TEXT } },
    },
    card: { type: 'object', description: 'The model card; with one model only.' },
  },
};

export const MODEL_LIST = {
  type: 'object',
  required: ['items', 'nextCursor', 'refused', 'inference'],
  properties: {
    items: { type: 'array', items: MODEL_ITEM },
    nextCursor: { type: 'null', description: 'There is one page.' },
    refused: {
      type: 'array',
      items: STRANGER,
      description: 'Folders that never loaded, and so are not registered.',
    },
    inference: {
      type: 'object',
      required: ['nodes', 'down'],
      properties: {
        nodes: { type: 'array', items: TEXT, description: 'Nodes that run models.' },
        breaker: { type: 'string', enum: ['absent', 'closed', 'open', 'half_open'] },
        down: {
          type: ['object', 'null'],
          properties: { reason: TEXT, since: TIME },
          description: 'Why the node that answers here has no predictions; null while it has.',
        },
      },
    },
  },
};
