import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { Routes } from '../../actors/ingress/route.ts';
import { systemClock } from '../../actors/protocol/clock.ts';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import type { RawReading } from '../../actors/protocol/kind.ts';
import type { Settings } from '../../config/settings.ts';
import { MqttCourier } from '../../mixins/mqtt-courier.ts';
import { EXIT, faultText, isMendable } from '../command-line.ts';
import { type ControlClient, control } from '../control-client.ts';
import { BEGINNING, type Blocks } from './block.ts';
import { type FileOptions, fileOptions, type OptionValues, parsedArguments } from './command-options.ts';
import { Labels, withLabels } from './labels.ts';
import { openBlocks } from './layout.ts';
import { EXIT_INTERRUPTED, type Terminal } from './load-command.ts';
import { msOf } from './loading.ts';
import { mapNames } from './map.ts';
import { notPlayed, type Played, play } from './player.ts';
import { type Replayed, tellOutcome } from './tell-outcome.ts';
import { type Timed, Timeline } from './timeline.ts';
import { sumOf } from './totals.ts';
import { speechOf } from './wire-message.ts';

/** `npm run replay`: files through MQTT, as the devices would have sent them. */
const EXIT_FAILED = 1;
const LOOK_AHEAD = 200_000;
const PROGRESS_MS = 2_000;
/** So long the acknowledgements of the last messages may take once it is told to stop. */
const SETTLE_MS = 5_000;

const REPLAY_HELP = `npm run replay -- --kind KIND [--map MAP] [options] FILE…

Plays files through MQTT as devices would: each asset on its topic, in the format of its kind, with QoS 1, in order of event
time. The times on the wire are those of the data, so that a second replay gives duplicates.

  --kind KIND     what the readings are of; may be left out where the map says it
  --map MAP       how columns become readings: ${mapNames().join(', ')},
                  or the path of a map of your own (docs/load.md)
  --start TIME    when the file begins, for maps that count from it, e.g. 2026-01-01T00:00:00Z
  --speed N       event time runs N times as fast as the clock (default 1, above 0); max: as fast as acknowledged
  --broker URL    default: the broker that the settings name (MQTT_URL, or MQTT_LISTEN_PORT of this machine)
  --key KEY       of an operator or a gateway; better in TWINMESH_KEY, which no process list shows.
                  Without one, the running server is asked for a key that ends with the replay.
  --label COLUMN  column in which people have marked anomalies; some maps name it (single-hop). It is not sent.
  --no-outcome    do not say at the end what the twins made of it
  -h, --help      this text

At the end the journals of the twins are read through the running server: which models answered how often, how far forecasts were
off, which events followed, and, where readings are labelled, precision and recall of detectors and models.
`;

/** Answers the exit code; throws nothing. */
export async function runReplay(
  args: readonly string[],
  settings: () => Settings,
  terminal: Terminal,
  keyOfEnvironment?: string,
): Promise<number> {
  try {
    const own = {
      speed: { type: 'string' },
      broker: { type: 'string' },
      key: { type: 'string' },
      label: { type: 'string' },
      'no-outcome': { type: 'boolean' },
    } as const;
    const { values, files } = parsedArguments(args, own);
    if (values.help) {
      terminal.out.write(REPLAY_HELP);
      return EXIT.ok;
    }
    const speed = speedOf(values.speed);
    const set = settings();
    const options = await fileOptions(values, files, set.kindsDir === null ? null : resolve(set.kindsDir));
    const label = values.label as string | undefined;
    if (label !== undefined && options.map === null)
      throw new TwinmeshError('bad_request', '--label names a column of a --map.');
    const all = await opening(options, label, set);
    const door = await openDoor(values, set, options.kind.kind, keyOfEnvironment);
    const replayed: Replayed = {
      kind: options.kind,
      labels: new Labels(label ?? options.map?.label ?? null),
      played: notPlayed(),
      startedAt: Date.now(),
    };
    try {
      const code = await replay(all, replayed, door.url, door.key, speed, terminal);
      if (values['no-outcome'] === true) return code;
      if (door.isOurs) await tellOutcome(control(set), replayed, terminal);
      else terminal.err.write('What the twins made of it is not told: the broker is not the one of the settings.\n');
      return code;
    } finally {
      await door.close();
    }
  } catch (error) {
    terminal.err.write(`${faultText(error)}\n`);
    if (error instanceof TwinmeshError && error.spec.retryable) return EXIT_FAILED;
    return isMendable(error) ? EXIT.faulty : EXIT_FAILED;
  }
}

async function opening(options: FileOptions, label: string | undefined, settings: Settings): Promise<Blocks[]> {
  const { kind, kinds, startMs, files } = options;
  const column = label ?? options.map?.label;
  // not every file that fits a map has been labelled
  const map =
    options.map === null || column === undefined ? options.map : withLabels(options.map, column, label === undefined);
  const routes = new Routes(kinds);
  const route = routes.of('file', '');
  const decode = (message: unknown): RawReading => {
    const decoded = routes.decode(route, message);
    if (decoded.kind === kind) return decoded.raw;
    throw new TwinmeshError('unknown_kind', `The message is of a ${decoded.kind.kind}.`);
  };
  return openBlocks(files, { kind, map, startMs, messageBytes: settings.maxPayloadBytes, decode });
}

async function replay(
  all: readonly Blocks[],
  { kind, labels, played }: Replayed,
  url: string,
  key: string | null,
  speed: number,
  { out, err, signal }: Terminal,
): Promise<number> {
  const speech = speechOf(kind);
  const courier = await MqttCourier.connect({
    url,
    clientId: `replay-${randomBytes(6).toString('hex')}`,
    ...(key === null ? {} : { username: 'replay', password: key }),
  });
  const pace = speed === 0 ? 'as fast as acknowledged' : `${speed} times as fast as it was`;
  err.write(`replaying as ${speech.title}, ${pace}\n`);
  const startedAt = performance.now();
  const skipped: Record<string, number> = {};
  const timeline = new Timeline(LOOK_AHEAD);
  const show = () => err.write(`${progressText(played, courier, all)}\n`);
  const timer = setInterval(show, PROGRESS_MS);
  timer.unref();
  let fault: unknown = null;
  try {
    const batches = readingsOf(all, skipped, labels);
    const readings = speed === 0 ? asTheyCome(batches) : timeline.inOrder(batches);
    await play(readings, { speech, carrier: courier, clock: systemClock, speed, signal }, played);
  } catch (error) {
    if (!(error instanceof TwinmeshError)) throw error;
    fault = error;
  }
  const late = signal.aborted ? AbortSignal.timeout(SETTLE_MS) : undefined;
  await courier.settled(late);
  clearInterval(timer);
  await courier.close();
  const unacknowledged = courier.sent - courier.acknowledged;
  out.write(`${replayText(played, courier, skipped, timeline.late, (performance.now() - startedAt) / 1000)}\n`);
  if (fault !== null) err.write(`${messageOf(fault)}\n`);
  if (fault !== null || unacknowledged > 0) return EXIT_FAILED;
  if (!played.whole) return EXIT_INTERRUPTED;
  return played.sent === 0 ? EXIT_FAILED : EXIT.ok;
}

async function* readingsOf(
  all: readonly Blocks[],
  skipped: Record<string, number>,
  labels: Labels,
): AsyncGenerator<RawReading[]> {
  for (const blocks of all) {
    for await (const block of blocks.from(BEGINNING)) {
      for (const [reason, lines] of Object.entries(block.skipped)) skipped[reason] = (skipped[reason] ?? 0) + lines;
      yield block.readings.map((reading) => labels.note(reading));
    }
  }
}

async function* asTheyCome(batches: AsyncIterable<readonly RawReading[]>): AsyncGenerator<Timed> {
  // Order between twins does not matter then; a time that is none is found when the message is made.
  for await (const batch of batches) for (const raw of batch) yield { raw, ms: msOf(raw.at) };
}

interface Door {
  url: string;
  /** The broker that the settings name: what is sent there comes to the twins of the server that runs on them. */
  isOurs: boolean;
  key: string | null;
  close(): Promise<void>;
}

/** Broker and key; a key that was asked for is given back at the end. */
async function openDoor(
  values: OptionValues,
  settings: Settings,
  kind: string,
  keyOfEnvironment: string | undefined,
): Promise<Door> {
  const given = (values.key as string | undefined) ?? (keyOfEnvironment || undefined);
  const other = (values.broker as string | undefined) ?? settings.mqttUrl ?? undefined;
  const own = `mqtt://${dialable(settings.host)}:${settings.mqttListenPort}`;
  const url = other ?? own;
  if (!/^(mqtts?|wss?):\/\//.test(url) || !URL.canParse(url))
    throw new TwinmeshError('bad_request', '--broker is a URL: mqtt://, mqtts://, ws:// or wss://.');
  const isOurs = url === (settings.mqttUrl ?? own);
  const plain: Door = { url, isOurs, key: given ?? null, close: () => Promise.resolve() };
  // A key of ours is for our broker alone, and that one listens here.
  if (given !== undefined || new URL(url).username !== '' || !isLocal(url)) return plain;
  const client = control(settings);
  const device = await temporaryDevice(client, kind);
  if (device === null) {
    if (other !== undefined) return plain;
    const message = 'No server runs on this DATA_DIR to give a key: start it, or name a broker (--broker) and a key.';
    throw new TwinmeshError('unavailable', message);
  }
  return {
    url,
    isOurs,
    key: device.key,
    close: async () => {
      await client.request('DELETE', `/api/v1/devices/${device.id}`).catch(() => undefined);
    },
  };
}

/** A gateway's key for a while; null where no server runs. */
async function temporaryDevice(client: ControlClient, kind: string): Promise<{ id: string; key: string } | null> {
  const id = `replay-${randomBytes(6).toString('hex')}`;
  try {
    return await client.request('POST', '/api/v1/devices', { name: 'replay (temporary)', kind, id, gateway: true });
  } catch (error) {
    if (error instanceof TwinmeshError && error.details?.running === false) return null;
    throw error;
  }
}

function isLocal(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}

/** An address that is bound on every interface is reached on this machine. */
function dialable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

/** 0 stands for as fast as possible. Throws bad_request. */
function speedOf(written: unknown): number {
  if (written === undefined) return 1;
  if (written === 'max') return 0;
  const speed = Number(written);
  if (speed > 0 && Number.isFinite(speed)) return speed;
  throw new TwinmeshError('bad_request', '--speed is a number of times above 0, or max.');
}

function progressText(played: Played, courier: MqttCourier, all: readonly Blocks[]): string {
  const size = all.reduce((sum, blocks) => sum + blocks.sizeBytes, 0);
  const read = all.reduce((sum, blocks) => sum + blocks.bytesRead(), 0);
  const at = played.lastMs === null ? '' : `at ${new Date(played.lastMs).toISOString()}, `;
  const share = read < size ? `, ${Math.floor((read / size) * 100)} % of the files read` : '';
  const away = courier.connected ? '' : ', the broker is away';
  return `${at}${played.sent.toLocaleString('en-US')} sent, ${courier.inFlight} not acknowledged yet${share}${away}`;
}

function replayText(
  played: Played,
  courier: MqttCourier,
  skipped: Record<string, number>,
  late: number,
  seconds: number,
): string {
  const number = (n: number) => n.toLocaleString('en-US');
  const listed = (counts: Record<string, number>) =>
    Object.entries(counts)
      .map(([reason, n]) => `${reason} ${number(n)}`)
      .join(', ');
  const { earliestMs, lastMs, twins } = played;
  const span = earliestMs === null || lastMs === null ? 0 : (lastMs - earliestMs) / 1000;
  const lines = [
    `${number(courier.acknowledged)} of ${number(courier.sent)} messages acknowledged, of ${number(twins.size)} twins, in ${seconds.toFixed(1)} s`,
  ];
  if (span > 0)
    lines.push(`  ${number(Math.round(span))} s of event time, ${(span / seconds).toFixed(0)} times as fast`);
  const failed = courier.sent - courier.acknowledged;
  if (failed > 0)
    lines.push(`  ${number(failed)} without acknowledgement: replay again, what is stored gives duplicates`);
  if (sumOf(skipped) > 0) lines.push(`  skipped lines ${number(sumOf(skipped))}: ${listed(skipped)}`);
  if (sumOf(played.unsaid) > 0) lines.push(`  not sent ${number(sumOf(played.unsaid))}: ${listed(played.unsaid)}`);
  if (late > 0) lines.push(`  ${number(late)} readings were further out of order than ${number(LOOK_AHEAD)} can tell`);
  return lines.join('\n');
}
