import { processSettings } from './config-file.ts';
import { interruption } from './load/interruption.ts';
import { EXIT_INTERRUPTED, runLoad } from './load/load-command.ts';

/** `npm run load`. */
const signal = interruption(EXIT_INTERRUPTED);
const terminal = { out: process.stdout, err: process.stderr, signal };
process.exit(await runLoad(process.argv.slice(2), () => processSettings(), terminal));
