import { randomUUID } from 'node:crypto';
import moleculer, { type ServiceBroker, type ServiceSchema } from 'moleculer';
import type { Settings } from '../config/settings.ts';
import { holdParts, releaseParts } from '../mixins/parts.ts';
import { brokerOptions } from '../moleculer.config.ts';
import { recordAttempt, recordOutcome } from './audit/trail.ts';
import { processSettings } from './config-file.ts';
import { type ControlClient, control, isRunning } from './control-client.ts';
import { LOCAL_ADMIN } from './gateway/authenticate.ts';
import { asTwinmeshError } from './gateway/problem.ts';
import { createLogger } from './logger.ts';
import { openParts, type Parts } from './parts.ts';
import { mustHoldData } from './present-data.ts';

/**
 * The admin of this machine, for command lines: through the control socket where a server runs on the data folder, else
 * by opening its database and running the one service that is asked.
 */
export interface LocalAdmin {
  call<Data>(request: AdminRequest): Promise<Data>;
  close(): Promise<void>;
}

export interface AdminRequest {
  /** `keys.create`: runs where no server does. */
  action: string;
  method: 'GET' | 'POST' | 'DELETE';
  /** The same, over HTTP; ids in it are encoded. */
  path: string;
  /** Of the action; the body of a POST, the query of a GET. */
  params: Record<string, unknown>;
  /** Of the action too, but in `path` over HTTP: the gateway refuses them in a query. */
  inPath?: Record<string, unknown>;
}

/**
 * Does one piece of work as the local admin of the settings of this process. Where it only `reads`, no database is made: throws
 * `data_dir` where none is.
 */
export async function asLocalAdmin<T>(
  work: (admin: LocalAdmin) => Promise<T>,
  how: 'reads' | 'changes' = 'changes',
): Promise<T> {
  const admin = await localAdmin(processSettings(), how);
  try {
    return await work(admin);
  } finally {
    await admin.close();
  }
}

/** Every item of a list, page by page. */
export async function everyItem<Item>(
  admin: LocalAdmin,
  list: Omit<AdminRequest, 'method' | 'params'>,
): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const params: Record<string, unknown> = { limit: 500, ...(cursor === null ? {} : { cursor }) };
    const page: { items: Item[]; nextCursor: string | null } = await admin.call({ ...list, method: 'GET', params });
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return items;
}

async function localAdmin(settings: Settings, how: 'reads' | 'changes'): Promise<LocalAdmin> {
  const client = control(settings);
  if (await isRunning(client)) return throughSocket(client);
  if (how === 'reads') mustHoldData(settings);
  return withoutServer(settings);
}

function throughSocket(client: ControlClient): LocalAdmin {
  return {
    call({ method, path, params }) {
      if (method === 'POST') return client.request(method, path, params);
      const query = method === 'GET' ? `?${new URLSearchParams(params as Record<string, string>)}` : '';
      return client.request(method, `${path}${query}`);
    },
    async close() {},
  };
}

async function withoutServer(settings: Settings): Promise<LocalAdmin> {
  // What goes wrong is thrown and printed once; a log beside it would say it twice.
  const logger = createLogger({ level: 'silent', format: 'json', node: settings.nodeId });
  const broker = new moleculer.ServiceBroker({
    // In a mesh under a name of its own, whatever runs there: it says what has been revoked, owns nothing and is soon gone.
    ...brokerOptions({ ...settings, nodeId: `tool-${randomUUID()}`, roles: [] }, logger),
    skipProcessEventRegistration: true,
  });
  const parts = await holdParts(broker, () => openParts(settings, { logger, startHost: false }));
  await broker.start();
  return {
    async call<Data>({ action, method, inPath, params: given }: AdminRequest): Promise<Data> {
      const params = { ...inPath, ...given };
      await serve(broker, action.slice(0, action.indexOf('.')));
      const attempt = method === 'GET' ? null : await audited(parts, action, params);
      let outcome = 'done';
      try {
        return await broker.call(action, params, { meta: { user: LOCAL_ADMIN } });
      } catch (error) {
        const refusal = asTwinmeshError(error);
        outcome = refusal.code;
        throw refusal.code === 'internal' ? error : refusal;
      } finally {
        if (attempt !== null) await recordOutcome(parts.sql, attempt, outcome);
      }
    },
    async close() {
      await broker.stop();
      await releaseParts(broker);
    },
  };
}

async function serve(broker: ServiceBroker, name: string): Promise<void> {
  if (broker.getLocalService(name)) return;
  const file = new URL(`./${name}.service.ts`, import.meta.url);
  const { default: schema } = (await import(file.href)) as { default: ServiceSchema };
  broker.createService(schema);
  await broker.waitForServices(name, 30_000, 20);
}

function audited(parts: Parts, action: string, params: Record<string, unknown>) {
  const target = typeof params.id === 'string' ? params.id : null;
  return recordAttempt(parts.sql, { caller: LOCAL_ADMIN, action, target, params, requestId: randomUUID() });
}
