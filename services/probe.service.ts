import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { isFromHere, presentedKey, sameText } from './gateway/authenticate.ts';
import { createHttpServer, listen, shut } from './gateway/http-server.ts';
import { asTwinmeshError } from './gateway/problem.ts';

/**
 * Health and metrics of a node that has no gateway, for whoever watches it: `/health/live`, `/health/ready` and `/metrics`,
 * the last to this machine and to METRICS_TOKEN only. Nothing else is served, and no body is read.
 */
interface Probe {
  server: Server | undefined;
  boundPort: number | null;
  answer(req: IncomingMessage, res: ServerResponse): Promise<void>;
}

const GRACE_MS = 1_000;

const probe: PartsSchema<Probe> = {
  name: 'probe',
  mixins: [partsMixin],

  methods: {
    async answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
      const path = (req.url ?? '/').split('?', 1)[0];
      const say = (status: number, type: string, body: string) => {
        res.writeHead(status, {
          'Content-Type': type,
          'Content-Length': Buffer.byteLength(body),
          'Cache-Control': 'no-store',
          'X-Content-Type-Options': 'nosniff',
          Connection: 'close',
        });
        res.end(req.method === 'HEAD' ? undefined : body);
      };
      const json = (status: number, body: object) =>
        say(status, 'application/json; charset=utf-8', JSON.stringify(body));
      if (req.method !== 'GET' && req.method !== 'HEAD') return json(405, { code: 'method_not_allowed' });
      try {
        if (path === '/health/live') return json(200, { live: true });
        if (path === '/health/ready') {
          const readiness = await this.broker.call<{ ready: boolean }, object>(
            'health.ready',
            {},
            { nodeID: this.broker.nodeID },
          );
          return json(readiness.ready ? 200 : 503, readiness);
        }
        if (path === '/metrics') {
          const { metricsToken } = this.parts.settings;
          const key = presentedKey(req.headers);
          const known = key !== null && metricsToken !== null && sameText(key, metricsToken);
          if (!known && (key !== null || !isFromHere(req))) return json(401, { code: 'unauthenticated' });
          return say(200, this.parts.metrics.contentType, await this.parts.metrics.text());
        }
        json(404, { code: 'not_found' });
      } catch (thrown) {
        const error = asTwinmeshError(thrown);
        json(error.spec.status, { code: error.code });
      }
    },
  },

  async started() {
    const { settings } = this.parts;
    this.boundPort = null;
    if (settings.roles.includes('gateway')) return;
    this.server = createHttpServer((req, res) => void this.answer(req, res));
    this.boundPort = await listen(this.server, settings.host, settings.metricsPort, 'METRICS_PORT');
  },

  async stopped() {
    if (this.server) await shut(this.server, GRACE_MS);
  },
};

export default probe;
