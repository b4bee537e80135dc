import { existsSync } from 'node:fs';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { EXIT, faultText } from './command-line.ts';
import { fileOptions, parsedArguments } from './load/command-options.ts';
import { scoreDetectors, scoreText } from './load/detector-score.ts';
import { loadMap } from './load/map.ts';

/** `npm run eval:detectors`: the detectors of a kind against a labelled file. */
const DEFAULT_FILE = '../shared/data/lwsndr_motes/single_hop.csv.gz';
const HELP = `npm run eval:detectors -- [--kind KIND] [--map MAP] [--label COLUMN] [FILE…]

Folds labelled files through the turn and compares what the detectors flag with the labels.

  --map MAP       default: single-hop
  --label COLUMN  1 (or any text but 0, false and normal) marks a reading that should be flagged; default: label
  FILE            default: ${DEFAULT_FILE}
`;

async function main(): Promise<void> {
  const { values, files } = parsedArguments(process.argv.slice(2), { label: { type: 'string' } });
  if (values.help) return void process.stdout.write(HELP);
  if (files.length === 0 && !existsSync(DEFAULT_FILE))
    throw new TwinmeshError('bad_request', `${DEFAULT_FILE} is not here; name a labelled file.`);
  const named = files.length === 0 ? [DEFAULT_FILE] : files;
  const { kind, map } = await fileOptions({ map: 'single-hop', ...values }, named, null);
  for (const file of named) {
    const score = await scoreDetectors(kind, map ?? loadMap('single-hop'), String(values.label ?? 'label'), file);
    process.stdout.write(`${scoreText(file, score)}\n`);
  }
}

main().catch((error) => {
  process.stderr.write(`${faultText(error)}\n`);
  process.exitCode = EXIT.faulty;
});
