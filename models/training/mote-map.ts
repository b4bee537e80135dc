import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dataFolder } from './data-folder.ts';
import { committedCard } from './training.ts';

/**
 * Draws docs/mote-groups.svg: the motes of the Intel lab where they stand, coloured by the group that training put them in
 * (held-out.json of mote-cluster). Positions come from the real data.
 *
 *     node models/training/mote-map.ts [DATA]
 */
const TARGET = fileURLToPath(new URL('../../docs/mote-groups.svg', import.meta.url));
const SCALE = 14;
const MARGIN = 24;
/** Told apart without colour too: each group has its own shape. */
const GROUPS = [
  { colour: '#1f77b4', name: 'coolest' },
  { colour: '#2ca02c', name: 'cool' },
  { colour: '#ff7f0e', name: 'warm' },
  { colour: '#d62728', name: 'warmest' },
];

function markOf(group: number, x: number, y: number): string {
  const fill = GROUPS[group].colour;
  switch (group) {
    case 0:
      return `<circle cx="${x}" cy="${y}" r="8" fill="${fill}"/>`;
    case 1:
      return `<rect x="${x - 8}" y="${y - 8}" width="16" height="16" fill="${fill}"/>`;
    case 2:
      return `<path d="M${x} ${y - 10}l10 10l-10 10l-10 -10z" fill="${fill}"/>`;
    default:
      return `<path d="M${x} ${y - 10}l10 17h-20z" fill="${fill}"/>`;
  }
}

function main(): void {
  const data = dataFolder(process.argv[2]);
  const model = committedCard('mote-cluster');
  if (data === null || model === null)
    throw new Error('Needs the real data (name its folder) and models/mote-cluster.');
  const { lab } = JSON.parse(readFileSync(join(model.folder, 'held-out.json'), 'utf8')) as {
    lab?: { mote: number; group: number }[];
  };
  if (lab === undefined) throw new Error('models/mote-cluster was trained without the data of the lab.');
  const groupOf = new Map(lab.map(({ mote, group }) => [mote, group]));
  const places = readFileSync(join(data, 'intel_lab_30min', 'mote_locs.txt'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const width = 2 * MARGIN + SCALE * Math.max(...places.map(([, x]) => x));
  const height = 2 * MARGIN + SCALE * Math.max(...places.map(([, , y]) => y));
  const marks = places.map(([mote, x, y]) => {
    const [px, py] = [MARGIN + SCALE * x, MARGIN + SCALE * y];
    const group = groupOf.get(mote);
    const mark =
      group === undefined ? `<circle cx="${px}" cy="${py}" r="7" fill="none" stroke="#888"/>` : markOf(group, px, py);
    return `${mark}<text x="${px}" y="${py + 20}">${mote}</text>`;
  });
  const legend = GROUPS.map(
    ({ name }, group) =>
      `${markOf(group, 30 + 110 * group, height + 16)}<text x="${75 + 110 * group}" y="${height + 20}">${name}</text>`,
  );
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height + 36}" font-family="sans-serif" font-size="10" text-anchor="middle">`,
    '<title>Motes of the Intel lab by group of like days</title>',
    `<rect width="${width}" height="${height + 36}" fill="#fff"/>`,
    ...marks,
    ...legend,
    '</svg>',
  ];
  writeFileSync(TARGET, `${svg.join('\n')}\n`);
  process.stdout.write(`${TARGET}\n`);
}

main();
