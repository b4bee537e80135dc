import type {
  ActionHandler,
  ActionSchema,
  Service,
  ServiceBroker,
  ServiceSchema,
  ServiceSettingSchema,
} from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { processSettings } from '../services/config-file.ts';
import type { Access } from '../services/gateway/caller.ts';
import type { ExposedAction } from '../services/gateway/routes.ts';
import { openParts, type Parts } from '../services/parts.ts';

/**
 * One set of parts a broker, opened by the first that needs them and closed by the last that leaves.
 * A service with this mixin finds `this.parts` in its `started`, and may still use it in its `stopped`.
 */
interface Held {
  parts: Promise<Parts>;
  holders: number;
}

const held = new WeakMap<ServiceBroker, Held>();
/** Brokers whose node is over: a service that is still starting must not open everything again. */
const over = new WeakSet<ServiceBroker>();

/** Throws what opening them throws; then nothing is held. `open` only matters to the first. */
export async function holdParts(
  broker: ServiceBroker,
  open: () => Promise<Parts> = () => openParts(processSettings()),
): Promise<Parts> {
  if (over.has(broker)) throw new TwinmeshError('unavailable', 'The node is stopping.');
  const found = held.get(broker) ?? { parts: open(), holders: 0 };
  held.set(broker, found);
  found.holders++;
  try {
    return await found.parts;
  } catch (error) {
    if (held.get(broker) === found) held.delete(broker);
    throw error;
  }
}

export async function releaseParts(broker: ServiceBroker): Promise<void> {
  const found = held.get(broker);
  if (!found || --found.holders > 0) return;
  held.delete(broker);
  await (await found.parts).close();
}

/** Closes them whoever still holds them, for good: for a start that failed or was broken off half-way. */
export async function closeParts(broker: ServiceBroker): Promise<void> {
  over.add(broker);
  const found = held.get(broker);
  held.delete(broker);
  const parts = await found?.parts.catch(() => undefined);
  await parts?.close();
}

/**
 * A service that uses the mixin: `const twins: PartsSchema = { name: 'twins', mixins: [partsMixin], … }`. `Own` are its
 * methods and what it keeps on `this` beside the parts. Actions may carry what the gateway reads of them.
 */
export type PartsSchema<Own = unknown> = Omit<Schema<Own>, 'actions'> & {
  actions?: Record<string, (ActionSchema<PartsService<Own>> & Exposed) | ActionHandler<PartsService<Own>>>;
};

export type PartsService<Own = unknown> = Service<ServiceSettingSchema> & { parts: Parts } & Own;
type Schema<Own> = ServiceSchema<ServiceSettingSchema, { parts: Parts }, Own>;
type Exposed = Pick<ExposedAction, 'rest' | 'openapi' | 'audit' | 'timeout'> & { role?: Access };

export const partsMixin: Partial<ServiceSchema> = {
  async started() {
    this.parts = await holdParts(this.broker);
  },
  // Moleculer runs `stopped` of mixins after the service's own.
  async stopped() {
    if (this.parts) await releaseParts(this.broker);
    this.parts = undefined;
  },
};

export default partsMixin;
