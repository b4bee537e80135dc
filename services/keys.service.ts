import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { CallMeta, Role } from './gateway/caller.ts';
import { listOf, PAGE_PARAMS } from './gateway/list-schema.ts';
import { type EnrolmentContext, enrolDevice, type NewDevice, revokeDevice, rotateDevice } from './keys/enrolment.ts';
import { mintKey } from './keys/hashing.ts';
import { ENROLMENT_SCHEMA, KEY_SCHEMA, NEW_KEY_SCHEMA, REVOKED_SCHEMA } from './keys/key-schema.ts';
import { keyRing } from './keys/keyring.ts';
import { doorstepOf } from './keys/sketch.ts';
import { insertKey, listKeys, revokeKeys } from './keys/store.ts';

/**
 * Keys of people and of devices. A secret is in the answer that made it and nowhere else; a revoked or rotated key stops
 * working before the answer goes out, here and, by `keys.revoked`, on the other nodes.
 */
interface Keys {
  enrolment(): EnrolmentContext;
  revoked(ids: string[]): Promise<void>;
}

type KeyContext<Params> = Context<Params, CallMeta>;
const by = (ctx: KeyContext<unknown>): string => ctx.meta.user?.name ?? 'inside';

const NAME = {
  type: 'string',
  min: 1,
  max: 100,
  trim: true,
  pattern: /^[^\p{C}]+$/u,
  description: 'What people call it.',
} as const;
const DEVICE_ID = {
  type: 'string',
  min: 1,
  max: 200,
  pattern: /^[A-Za-z0-9._:-]+$/,
  description: 'Twin id of the device, or the id of its key.',
  example: 'device:dev-7',
} as const;

const keys: PartsSchema<Keys> = {
  name: 'keys',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    list: {
      rest: 'GET /api/v1/keys',
      role: 'admin',
      params: { ...PAGE_PARAMS },
      openapi: {
        summary: 'Keys of people and programs',
        description: 'Without the secrets, live and revoked ones. Those of devices are listed by GET /api/v1/devices.',
        tags: ['keys'],
        response: listOf(KEY_SCHEMA),
      },
      handler(ctx: KeyContext<{ limit: number; cursor?: string }>) {
        return listKeys(this.parts.sql, { devices: false, ...ctx.params });
      },
    },

    create: {
      rest: 'POST /api/v1/keys',
      role: 'admin',
      params: {
        name: { ...NAME, example: 'shift leader' },
        role: {
          type: 'enum',
          values: ['viewer', 'technician', 'operator', 'admin'],
          description:
            'viewer reads; technician also acknowledges and records maintenance; operator also commands; admin also manages keys.',
        },
      },
      openapi: {
        summary: 'Make a key',
        description: 'The answer is the only place where the secret ever stands.',
        tags: ['keys'],
        response: NEW_KEY_SCHEMA,
        bodyExample: { name: 'shift leader', role: 'technician' },
      },
      async handler(ctx: KeyContext<{ name: string; role: Role }>) {
        const { name, role } = ctx.params;
        const minted = mintKey();
        await insertKey(this.parts.sql, { id: minted.id, name, role, hash: minted.hash, createdBy: by(ctx) });
        return { id: minted.id, name, role, key: minted.key };
      },
    },

    revoke: {
      rest: 'DELETE /api/v1/keys/:id',
      role: 'admin',
      params: { id: { type: 'string', pattern: /^[a-z0-9]{1,64}$/, description: 'Id of the key.' } },
      openapi: {
        summary: 'Revoke a key',
        description: 'It stops working on every node before the answer goes out; streams that were opened with it end.',
        tags: ['keys'],
        response: REVOKED_SCHEMA,
      },
      async handler(ctx: KeyContext<{ id: string }>) {
        const rows = await revokeKeys(this.parts.sql, { id: ctx.params.id, devices: false });
        if (rows.length === 0) throw new TwinmeshError('not_found', `No live key ${ctx.params.id}.`);
        const ids = rows.map((row) => row.id);
        await this.revoked(ids);
        return { revoked: ids };
      },
    },

    devices: {
      rest: 'GET /api/v1/devices',
      role: 'admin',
      params: { ...PAGE_PARAMS },
      openapi: {
        summary: 'Enrolled devices',
        description: 'Their keys without the secrets, live and revoked ones.',
        tags: ['devices'],
        response: listOf(KEY_SCHEMA),
      },
      handler(ctx: KeyContext<{ limit: number; cursor?: string }>) {
        return listKeys(this.parts.sql, { devices: true, ...ctx.params });
      },
    },

    enrol: {
      rest: 'POST /api/v1/devices',
      role: 'admin',
      params: {
        name: { ...NAME, example: 'press 4' },
        kind: { type: 'string', max: 31, description: 'One of GET /api/v1/kinds.', example: 'machine' },
        id: { type: 'string', max: 128, optional: true, description: 'Asset id; made from the name when left out.' },
        gateway: { type: 'boolean', optional: true, description: 'True: it may speak for every asset.' },
      },
      openapi: {
        summary: 'Enrol a device',
        description: 'Answers its key, topic, address, and sketches that are ready to run.',
        tags: ['devices'],
        response: ENROLMENT_SCHEMA,
        bodyExample: { name: 'press 4', kind: 'machine', id: 'PRESS_4' },
      },
      handler(ctx: KeyContext<NewDevice>) {
        return enrolDevice(this.enrolment(), ctx.params, by(ctx));
      },
    },

    rotate: {
      rest: 'POST /api/v1/devices/:id/rotate',
      role: 'admin',
      params: { id: DEVICE_ID },
      openapi: {
        summary: 'Give a device a new key',
        description: 'The old one stops working at once.',
        tags: ['devices'],
        response: ENROLMENT_SCHEMA,
      },
      async handler(ctx: KeyContext<{ id: string }>) {
        const enrolment = await rotateDevice(this.enrolment(), ctx.params.id);
        await this.revoked([enrolment.id]);
        return enrolment;
      },
    },

    remove: {
      rest: 'DELETE /api/v1/devices/:id',
      role: 'admin',
      params: { id: DEVICE_ID },
      openapi: {
        summary: 'Revoke the key of a device',
        description: 'Its twin and its history stay.',
        tags: ['devices'],
        response: REVOKED_SCHEMA,
      },
      async handler(ctx: KeyContext<{ id: string }>) {
        const ids = await revokeDevice(this.parts.sql, ctx.params.id);
        await this.revoked(ids);
        return { revoked: ids };
      },
    },
  },

  methods: {
    enrolment(): EnrolmentContext {
      const { sql, kinds, settings } = this.parts;
      return { sql, kinds, doorstep: doorstepOf(settings) };
    },

    /** Every node forgets the keys, and every door ends what was opened with them. */
    async revoked(ids: string[]): Promise<void> {
      for (const id of ids) keyRing(this.parts.sql).forget(id);
      await this.broker.broadcast('keys.revoked', { ids });
    },
  },

  async stopped() {
    if (this.parts) await keyRing(this.parts.sql).flush();
  },
};

export default keys;
