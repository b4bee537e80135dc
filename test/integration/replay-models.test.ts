import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadSettings, type Settings } from '../../config/settings.ts';
import { runReplay } from '../../services/load/replay-command.ts';
import { NodeProcess, whereabouts } from '../e2e/node-process.ts';
import { emptyDatabase } from '../servers/embedded.ts';

/** A labelled file through a whole node whose models answer: what the command says of it, against what the API says. */
const folder = mkdtempSync(join(tmpdir(), 'twinmesh-replay-models-'));
const DATA_DIR = join(folder, 'data');
const START = Date.UTC(2026, 0, 1);
const STEP_S = 5;
const READINGS = 900;
const isHot = (i: number): boolean => i >= 600 && i < 800;

let node: NodeProcess;
let http: string;
let key: string;
let settings: Settings;

beforeAll(async () => {
  await emptyDatabase(DATA_DIR);
  node = NodeProcess.start(folder, { DATA_DIR, DEMO: 'off' });
  const where = await whereabouts(node);
  http = where.http;
  key = where.key ?? '';
  settings = loadSettings({ DATA_DIR, MQTT_LISTEN_PORT: String(where.mqttPort) });
});

afterAll(async () => {
  node?.signal('SIGKILL');
  await node?.ended();
  rmSync(folder, { recursive: true, force: true });
});

async function get<Data>(path: string): Promise<Data> {
  const answer = await fetch(`${http}/api/v1/${path}`, { headers: { 'x-api-key': key } });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { data: Data }).data;
}

interface Said {
  at: string;
  score: number;
  threshold: number;
}

/** All that the model said of the mote. */
async function predictions(): Promise<Said[]> {
  const said: Said[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const path = `twins/mote:7/predictions?name=anomaly&limit=500${cursor && `&cursor=${cursor}`}`;
    const page: { items: Said[]; nextCursor: string | null } = await get(path);
    said.push(...page.items);
    cursor = page.nextCursor;
  }
  return said;
}

it('tells how detectors and models did, as the journal has it', async () => {
  const answers = async () => {
    const { items } = await get<{ items: { name: string }[] }>('models');
    return items.some(({ name }) => name === 'mote-anomaly');
  };
  while (!(await answers())) await new Promise((resolve) => setTimeout(resolve, 200));

  const path = join(folder, 'labelled.csv');
  const rows = Array.from({ length: READINGS }, (_, i) => {
    const degrees = 22 + Math.sin(i / 40) / 4 + (isHot(i) ? 12 : 0);
    return `${i + 1},7,${(45 + Math.cos(i / 30) / 3).toFixed(2)},${degrees.toFixed(2)},${isHot(i) ? 1 : 0}`;
  });
  writeFileSync(path, `reading,mote_id,humidity,temperature,label\n${rows.join('\n')}\n`);
  const said = { out: '', err: '' };
  const args = ['--map', 'single-hop', '--start', '2026-01-01', '--speed', '500', path];
  const code = await runReplay(args, () => settings, {
    out: { write: (text: string) => (said.out += text) },
    err: { write: (text: string) => (said.err += text) },
    signal: new AbortController().signal,
  });
  expect(code, said.err).toBe(0);
  expect(said.out).toContain(`against 200 labelled readings (1)\n  detectors`);

  const scores = await predictions();
  // as often as event time says, however fast it goes: not once in a replay of seconds
  expect(scores.length).toBeGreaterThan(20);
  const asked = scores.map(({ at, score, threshold }) => ({
    labelled: isHot((Date.parse(at) - START) / 1000 / STEP_S),
    flagged: score > threshold,
  }));
  const found = asked.filter(({ labelled, flagged }) => labelled && flagged).length;
  const labelled = asked.filter((each) => each.labelled).length;
  const flagged = asked.filter((each) => each.flagged).length;
  expect(found).toBeGreaterThan(0);
  const precision = (found / flagged).toFixed(3);
  const recall = (found / labelled).toFixed(3);
  expect(said.out).toMatch(
    new RegExp(`anomaly +${asked.length} answers of mote-anomaly@[0-9.]+, due ${READINGS} times; ${flagged} above`),
  );
  expect(said.out).toMatch(
    new RegExp(
      `anomaly +precision ${precision} {2}recall ${recall} .* of ${asked.length} that it was asked about, ${labelled} of them labelled`,
    ),
  );
  expect(said.out).toMatch(/either +precision/);
});
