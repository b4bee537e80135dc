import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import mote from '../../../actors/kinds/mote.ts';
import { readPrediction } from '../../../actors/runtime/answer.ts';
import { layoutOf } from '../../../actors/runtime/layout.ts';
import { Model } from '../../../models/model.ts';
import { predictWith } from '../../../models/predictor.ts';

it('a forecast comes with where each metric lies, and the host journals that too', async () => {
  const folder = join(import.meta.dirname, '../../../models/mote-forecast/1.0.0');
  const { inputs } = JSON.parse(readFileSync(join(folder, 'parity.json'), 'utf8')) as { inputs: (number | null)[][] };
  const model = await Model.load(folder);
  const rows = Float32Array.from(inputs.flat(), (x) => x ?? Number.NaN);
  const { predictions } = await predictWith(model, {
    inputs: rows,
    rows: inputs.length,
    at: inputs.map(() => 7),
  });
  const plan = layoutOf(mote).predictions.find(({ use }) => use.model === 'mote-forecast')!;
  let spans = 0;
  for (const prediction of predictions) {
    if (prediction === null) continue;
    const { forecast, forecastLo, forecastHi } = prediction;
    for (const [name, value] of Object.entries(forecast!)) {
      expect(forecastLo![name]).toBeLessThanOrEqual(value);
      expect(forecastHi![name]).toBeGreaterThanOrEqual(value);
      if (forecastHi![name] > forecastLo![name]) spans++;
    }
    expect(readPrediction(prediction, 'mote-forecast', 7, plan)).toEqual(prediction);
  }
  expect(spans).toBeGreaterThan(5);
  await model.retire();
});
