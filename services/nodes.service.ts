import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { listOf } from './gateway/list-schema.ts';
import type { NodeItem } from './nodes/node-item.ts';

/** The nodes of the mesh: what each does and owns, and how one is emptied before it is taken away. */
interface Nodes {
  startedAt: number;
  tell(node: string, action: string): Promise<void>;
}

const TELL_MS = 30_000;
const ASK_MS = 1_500;
const NODE = {
  type: 'string',
  pattern: /^[A-Za-z0-9._-]{1,64}$/,
  description: 'Name of the node, as GET /api/v1/nodes lists it.',
  example: 'host-1',
} as const;
const COUNT = { type: 'integer' };
const NODE_SCHEMA = {
  type: 'object',
  required: ['node', 'roles', 'state', 'shards'],
  properties: {
    node: { type: 'string' },
    roles: { type: 'array', items: { type: 'string' } },
    state: { type: 'string', enum: ['starting', 'running', 'draining', 'drained', 'stopped', 'silent'] },
    shards: COUNT,
    recovering: COUNT,
    twins: { ...COUNT, description: 'Twins in its memory.' },
    readings: { ...COUNT, description: 'Readings folded since it started.' },
    fenced: { ...COUNT, description: 'Parts of checkpoints that were refused because another node owned the shard.' },
    uptimeMs: COUNT,
    memoryMb: COUNT,
    version: { type: 'string' },
  },
};

const nodes: PartsSchema<Nodes> = {
  name: 'nodes',
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/nodes',
      role: 'viewer',
      openapi: {
        summary: 'Nodes of the mesh, and who owns how many shards',
        description: 'Each node is asked; one that does not answer and still owns shards is `silent`.',
        tags: ['nodes'],
        response: listOf(NODE_SCHEMA),
      },
      async handler() {
        const counts = await this.parts.sql.query<{ owner: string; shards: number }>(
          'select owner, count(*)::int as shards from shards where owner is not null group by owner',
        );
        const owned = new Map(counts.map(({ owner, shards }) => [owner, shards]));
        const known = this.broker.registry.getNodeList({ onlyAvailable: true }) as { id: string }[];
        const names = new Set([...known.map(({ id }) => id), ...owned.keys()]);
        const items = await Promise.all(
          [...names].sort().map((node) =>
            this.broker
              .call<NodeItem, object>('nodes.status', {}, { nodeID: node, timeout: ASK_MS })
              .catch(() => silent(node))
              .then((item) => ({ ...item, shards: owned.get(node) ?? 0 })),
          ),
        );
        // Tools and callers are in the mesh without being nodes of it.
        return { items: items.filter((item) => item.state !== 'silent' || item.shards > 0), nextCursor: null };
      },
    },

    drain: {
      rest: 'POST /api/v1/nodes/:node/drain',
      role: 'admin',
      params: { node: NODE },
      timeout: TELL_MS + 5_000,
      openapi: {
        summary: 'Empty a node',
        description:
          'It gives up its shards one after the other and claims none until it is undrained or started again.',
        tags: ['nodes'],
        response: { type: 'object' },
      },
      async handler(ctx: Context<{ node: string }>) {
        await this.tell(ctx.params.node, 'nodes.empty');
        return { node: ctx.params.node, state: 'drained' };
      },
    },

    undrain: {
      rest: 'POST /api/v1/nodes/:node/undrain',
      role: 'admin',
      params: { node: NODE },
      openapi: {
        summary: 'Let a drained node take its share again',
        description: 'It claims shards from now on; the others hand over what is its share.',
        tags: ['nodes'],
        response: { type: 'object' },
      },
      async handler(ctx: Context<{ node: string }>) {
        await this.tell(ctx.params.node, 'nodes.fill');
        return { node: ctx.params.node, state: 'running' };
      },
    },

    /** Of this node. The four below are asked by other nodes, not over HTTP. */
    status: {
      visibility: 'public',
      handler(): NodeItem {
        const { settings, hosts, clock } = this.parts;
        const host = hosts ? this.parts.host.status() : null;
        return {
          node: settings.nodeId,
          roles: settings.roles,
          state: host?.state ?? 'running',
          shards: host?.shards.owned ?? 0,
          recovering: host?.shards.recovering ?? 0,
          twins: host?.twins.resident ?? 0,
          readings: host?.counters.accepted ?? 0,
          fenced: host?.counters.fenced ?? 0,
          uptimeMs: Math.round(clock.monotonic() - this.startedAt),
          memoryMb: Math.round(process.memoryUsage.rss() / 1_048_576),
          version: this.broker.metadata.version ?? '',
        };
      },
    },

    empty: {
      visibility: 'public',
      timeout: TELL_MS,
      async handler() {
        await this.parts.host.drain();
      },
    },

    fill: {
      visibility: 'public',
      async handler() {
        await this.parts.host.undrain();
      },
    },
  },

  methods: {
    async tell(node: string, action: string): Promise<void> {
      const known = this.broker.registry.getNodeList({ onlyAvailable: true, withServices: true }) as {
        id: string;
        metadata?: { roles?: string[] };
      }[];
      const found = known.find(({ id }) => id === node);
      if (found === undefined) throw new TwinmeshError('not_found', `There is no node ${node} in the mesh.`);
      if (found.metadata?.roles !== undefined && !found.metadata.roles.includes('host'))
        throw new TwinmeshError('conflict', `${node} does not have the role host: it owns no shards.`);
      await this.broker.call<void, object>(action, {}, { nodeID: node, timeout: TELL_MS });
    },
  },

  async started() {
    this.startedAt = this.parts.clock.monotonic();
  },
};

function silent(node: string): NodeItem {
  const nothing = { shards: 0, recovering: 0, twins: 0, readings: 0, fenced: 0, uptimeMs: 0, memoryMb: 0 };
  return { node, roles: [], state: 'silent', ...nothing, version: '' };
}

export default nodes;
