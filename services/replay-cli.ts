import { processSettings } from './config-file.ts';
import { interruption } from './load/interruption.ts';
import { EXIT_INTERRUPTED } from './load/load-command.ts';
import { runReplay } from './load/replay-command.ts';

/** `npm run replay`. */
const signal = interruption(EXIT_INTERRUPTED);
const terminal = { out: process.stdout, err: process.stderr, signal };
process.exit(await runReplay(process.argv.slice(2), () => processSettings(), terminal, process.env.TWINMESH_KEY));
