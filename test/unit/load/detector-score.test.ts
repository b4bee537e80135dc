import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { scoreDetectors, scoreText } from '../../../services/load/detector-score.ts';
import { loadMap } from '../../../services/load/map.ts';
import { folder, kinds } from './bytes.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/lwsndr_motes/single_hop.csv.gz');
const map = loadMap('single-hop');
const files = folder();
afterAll(() => files.clean());

describe('the detectors of the mote kind', () => {
  it('find a labelled event in a quiet series, and nothing else', async () => {
    const rows = Array.from({ length: 600 }, (_, i) => {
      const hot = i >= 300 && i < 350;
      return `${i + 1},9,${(45 + Math.sin(i / 9) / 5).toFixed(2)},${((hot ? 40 : 25) + Math.cos(i / 7) / 9).toFixed(2)},${hot ? 1 : 0}`;
    });
    const path = files.write('labelled.csv', `reading,mote_id,humidity,temperature,label\n${rows.join('\n')}\n`);
    const score = await scoreDetectors(kinds.get('mote'), map, 'label', path);
    expect(score).toMatchObject({
      readings: 600,
      labelled: 50,
      events: [{ twinId: 'mote:9', readings: 50, foundAfterMs: 0 }],
    });
    expect(score.f1).toBeGreaterThan(0.9);
    // Labels that say the opposite score as they should: the measure is not blind.
    const wrong = files.write(
      'wrong.csv',
      `reading,mote_id,humidity,temperature,label\n${rows.map((row, i) => row.replace(/,\d$/, i < 50 ? ',1' : ',0')).join('\n')}\n`,
    );
    const mistaken = await scoreDetectors(kinds.get('mote'), map, 'label', wrong);
    expect(mistaken).toMatchObject({ f1: 0, truePositives: 0, falseNegatives: 50, events: [{ foundAfterMs: null }] });
  });

  it('are asked about a column that is there', async () => {
    const path = files.write('no-label.csv', 'reading,mote_id,humidity,temperature\n1,1,45,25\n');
    await expect(scoreDetectors(kinds.get('mote'), map, 'label', path)).rejects.toThrow('no column label');
  });

  it.skipIf(!existsSync(DATA))('find both events of the single-hop motes with an F1 of at least 0.6', async () => {
    const score = await scoreDetectors(kinds.get('mote'), map, 'label', DATA);
    console.info(scoreText('single-hop motes, Suthaharan et al. 2010', score));
    expect([score.readings, score.labelled, score.events.length]).toEqual([18_914, 149, 2]);
    for (const event of score.events) expect(event.foundAfterMs).not.toBeNull();
    expect(score.f1).toBeGreaterThanOrEqual(0.6);
  });
  if (!existsSync(DATA)) console.info(`skipped: the labelled motes are not at ${DATA}`);
});
