import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NodeProcess, ROOT } from '../../test/e2e/node-process.ts';
import { type Figure, type Scenario, seconds } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const LINES = 2_300_000;
const MOTES = 54;

/** A file of the size and text of the Intel lab trace, read without storing and then loaded, as `npm run load` does it. */
const scenario: Scenario = {
  name: 'bulk-load',
  title: `${LINES.toLocaleString('en-US')} lines of Intel lab text: read, and stored`,
  async run(say) {
    const folder = temporaryFolder('load');
    const file = join(folder.path, 'data.txt');
    generate(file);
    say('generated');
    const figures: Figure[] = [];
    for (const [what, flags, atLeast] of [
      ['parsed and checked (--dry-run), process start included', ['--dry-run'], 300_000],
      ['stored end to end, process start and stop included', [], 50_000],
    ] as const) {
      const took = await seconds(async () => {
        const args = [join(ROOT, 'services/load-cli.ts'), '--kind', 'mote', ...flags, file];
        const node = NodeProcess.run(folder.path, args, { LOG_LEVEL: 'warn' });
        const code = await node.ended();
        const summary = node.output.trim().split('\n').slice(-6).join(' | ');
        say(summary);
        if (code !== 0) throw new Error(node.output);
      });
      figures.push({ what, value: LINES / took, unit: 'lines/s', atLeast });
    }
    folder.remove();
    return figures;
  },
};
export default scenario;

/** Motes in turn, 31 seconds apart, with the digits that the real trace has. */
function generate(file: string): void {
  const out = openSync(file, 'w');
  const t0 = Date.UTC(2004, 1, 28);
  let lines: string[] = [];
  for (let i = 0; i < LINES; i++) {
    const mote = 1 + (i % MOTES);
    const epoch = Math.floor(i / MOTES);
    const at = new Date(t0 + epoch * 31_000 + mote * 7).toISOString();
    const day = Math.sin(epoch / 400);
    lines.push(
      `${at.slice(0, 10)} ${at.slice(11, 23)}${String(i % 1000).padStart(3, '0')} ${epoch} ${mote} ${(20 + 4 * day + (i % 17) / 100).toFixed(4)} ${(40 - 6 * day + (i % 13) / 100).toFixed(4)} ${(100 + 90 * day).toFixed(2)} ${(2.69 - epoch / 1e6).toFixed(5)}`,
    );
    if (lines.length === 20_000 || i === LINES - 1) {
      writeSync(out, `${lines.join('\n')}\n`);
      lines = [];
    }
  }
  closeSync(out);
}
