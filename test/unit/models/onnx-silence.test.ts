import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { committedCard } from '../../../models/training/training.ts';

/** ONNX Runtime calls its maker unless it is told not to; it keeps an identifier and a queue in the home folder then. */
const model = new URL('../../../models/model.ts', import.meta.url).href;

async function homeAfter(program: string): Promise<string[]> {
  const home = mkdtempSync(join(tmpdir(), 'twinmesh-home-'));
  try {
    // it keeps quiet by itself where it sees a CI, and obeys who sets the switch outside
    const env = { HOME: home, PATH: process.env.PATH, TMPDIR: home };
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], { env });
    return readdirSync(home, { recursive: true }) as string[];
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

describe('ONNX Runtime', () => {
  it('leaves nothing in the home folder and calls nobody, whatever the environment says', async () => {
    const folder = JSON.stringify(committedCard('battery-rul')!.folder);
    const use = `const { Model } = await import(${JSON.stringify(model)}); const m = await Model.load(${folder}); await m.retire();`;
    expect(await homeAfter(use)).toEqual([]);
    expect(await homeAfter(`process.env.ORT_DISABLE_TELEMETRY = '0'; ${use}`)).toEqual([]);
  });
});
