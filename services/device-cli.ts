import { type CommandLine, minuteOf, runProcess, tableText } from './command-line.ts';
import type { Enrolment } from './keys/enrolment.ts';
import { asLocalAdmin, everyItem } from './local-admin.ts';

/** `npm run -s device`: enrolling devices, and all that their owner needs to connect them. */
interface DeviceItem {
  id: string;
  name: string;
  twinId: string | null;
  gateway: boolean;
  lastUsedAt: string | Date | null;
  revokedAt: string | Date | null;
}

const HELP = `Devices: who may send telemetry.

  npm run -s device -- add NAME --kind KIND [--id ID] [--gateway] [--quiet]
      enrols a device and shows its key once, with topic, address, a mosquitto_pub and a curl line,
      and sketches for Arduino and MicroPython. The id is made from NAME unless given.
      --gateway  it may speak for every asset     --quiet  the key alone, for scripts
  npm run -s device -- list                 every device: twin, key id, name, last used, revoked
  npm run -s device -- rotate TWIN_OR_ID [--quiet]    a new key; the old one ends at once
  npm run -s device -- revoke TWIN_OR_ID    ends its key at once; twin and history stay

KIND  battery, machine, mote, device, or a kind of your own

Keys of people: npm run -s key -- --help
Works on the data folder (DATA_DIR or DATABASE_URL), through the server where one runs on it.
`;

function enrolmentText({ key, twinId, gateway, topic, address, sketches }: Enrolment): string {
  const titled = (title: string, text: string) =>
    `── ${title} ${'─'.repeat(Math.max(3, 76 - title.length))}\n${text.trimEnd()}`;
  return [
    [
      `key      ${key}   (shown this once)`,
      `twin     ${twinId}${gateway ? ' (a gateway: it may speak for every asset)' : ''}`,
      `topic    ${topic}`,
      `address  ${address.mqtt}  ${address.http}`,
    ].join('\n'),
    titled('mosquitto_pub', sketches.mosquittoPub),
    titled('curl', sketches.curl),
    titled('Arduino', sketches.arduino),
    titled('MicroPython', sketches.micropython),
  ].join('\n\n');
}

const QUIET = { quiet: { type: 'boolean' } } as const;

export const deviceCommands: CommandLine = {
  help: HELP,
  verbs: {
    add: {
      words: ['NAME'],
      options: { kind: { type: 'string' }, id: { type: 'string' }, gateway: { type: 'boolean' }, ...QUIET },
      async run({ NAME }, { kind, id, gateway, quiet }) {
        const params = { name: NAME, kind, ...(id === undefined ? {} : { id }), ...(gateway ? { gateway } : {}) };
        const request = { action: 'keys.enrol', method: 'POST', path: '/api/v1/devices', params } as const;
        const enrolment = await asLocalAdmin((admin) => admin.call<Enrolment>(request));
        return quiet ? enrolment.key : enrolmentText(enrolment);
      },
    },
    list: {
      words: [],
      async run() {
        const list = { action: 'keys.devices', path: '/api/v1/devices' };
        const devices = await asLocalAdmin((admin) => everyItem<DeviceItem>(admin, list), 'reads');
        const rows = devices.map((d) => [
          d.gateway ? `${d.twinId ?? 'any'} (gateway)` : (d.twinId ?? '-'),
          d.id,
          d.name,
          minuteOf(d.lastUsedAt),
          minuteOf(d.revokedAt),
        ]);
        return tableText(['twin', 'key id', 'name', 'last used', 'revoked'], rows);
      },
    },
    rotate: {
      words: ['TWIN_OR_ID'],
      options: QUIET,
      async run({ TWIN_OR_ID: id }, { quiet }) {
        const path = `/api/v1/devices/${encodeURIComponent(id)}/rotate`;
        const request = { action: 'keys.rotate', method: 'POST', path, params: { id } } as const;
        const enrolment = await asLocalAdmin((admin) => admin.call<Enrolment>(request));
        return quiet ? enrolment.key : enrolmentText(enrolment);
      },
    },
    revoke: {
      words: ['TWIN_OR_ID'],
      async run({ TWIN_OR_ID: id }) {
        const path = `/api/v1/devices/${encodeURIComponent(id)}`;
        const request = { action: 'keys.remove', method: 'DELETE', path, params: { id } } as const;
        const { revoked } = await asLocalAdmin((admin) => admin.call<{ revoked: string[] }>(request));
        return `revoked ${revoked.join(', ')}`;
      },
    },
  },
};

if (import.meta.main) await runProcess(deviceCommands);
