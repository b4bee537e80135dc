import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseCard } from '../../../models/card.ts';
import { Model } from '../../../models/model.ts';
import { predictWith } from '../../../models/predictor.ts';
import { cardOf, inputsOf, linear, onnxFile, projection, squares, writeModel } from '../../fixtures/onnx.ts';

/** What a model folder may say, and what becomes of one that lies. */
const root = mkdtempSync(join(tmpdir(), 'twinmesh-models-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let made = 0;
interface Lie {
  onnx?: Uint8Array;
  card?: Record<string, unknown>;
  parity?: unknown;
}
const PARITY = {
  inputs: [
    [1, 2],
    [3, 4],
  ],
  outputs: { value: [8.5, 18.5] },
};
/** A sound model is `value = 2 t + 3 v + 0.5`. */
function folder({ onnx = linear([2, 3], 0.5), card, parity = PARITY }: Lie = {}): string {
  return writeModel(root, { name: `m${++made}`, version: '1.0.0', onnx, card, parity });
}
const refused = (path: string) =>
  Model.load(path).then(
    () => 'it was taken',
    (error) => `${error.code}: ${error.message}`,
  );
const ask = async (model: Model, rows: (number | null)[][], explain = true) => {
  const inputs = Float32Array.from(rows.flatMap((row) => row.map((x) => x ?? Number.NaN)));
  return predictWith(model, { inputs, rows: rows.length, at: rows.map((_, i) => i) }, { explain });
};

describe('a sound model', () => {
  it('answers as its trainer said, one by one and many at once', async () => {
    const model = await Model.load(folder());
    const rows = Array.from({ length: 1_000 }, (_, i) => [i, i % 7]);
    const { predictions, refused } = await ask(model, rows);
    expect(predictions[999]).toEqual({ model: model.id, at: 999, value: 1998 + 15 + 0.5, unit: 'h' });
    expect(predictions.every((p, i) => p?.value === 2 * i + 3 * (i % 7) + 0.5)).toBe(true);
    expect(refused.size).toBe(0);
    await model.retire();
  });

  it('gives an interval that holds its value', async () => {
    const model = await Model.load(folder({ onnx: linear([2, 3], 0.5, 4), parity: PARITY }));
    const { predictions } = await ask(model, [[1, 1]]);
    expect(predictions[0]).toMatchObject({ value: 5.5, interval: [1.5, 9.5] });
    await model.retire();
  });

  it('refuses rows and not requests: what is missing, not finite, out of range', async () => {
    const card = {
      inputs: [{ ...inputsOf('a')[0], missing: 'required' }, ...inputsOf('b')],
      output: { range: [0, 100] },
    };
    const model = await Model.load(folder({ card }));
    const { predictions, refused } = await ask(model, [
      [1, 1],
      [null, 1],
      [1, null],
      [500, 1],
      [Number.POSITIVE_INFINITY, 1],
    ]);
    expect(predictions.map((p) => p?.value ?? null)).toEqual([5.5, null, null, null, null]);
    expect(Object.fromEntries(refused)).toEqual({ missing_input: 1, not_finite: 2, out_of_range: 1 });
    await model.retire();
  });

  it('takes the end of its range where float32 lands beside it', async () => {
    // exp(log(500)) in float32 is 500.00006: two steps above.
    const onnx = linear([1], 0);
    const card = { inputs: inputsOf('a'), output: { range: [0.02, 500] } };
    const model = await Model.load(
      folder({ onnx, card, parity: { inputs: [[500.00006]], outputs: { value: [500] } } }),
    );
    const { predictions, refused } = await ask(model, [[500.00006], [500.01], [0.019999998], [0.01]]);
    expect(predictions.map((p) => p?.value ?? null)).toEqual([500, null, 0.02, null]);
    expect(Object.fromEntries(refused)).toEqual({ out_of_range: 2 });
    await model.retire();
  });

  it('is refused where its card would refuse what its trainer said', async () => {
    expect(await refused(folder({ card: { output: { range: [0, 10] } } }))).toMatch(
      /bad_model: Parity: .* row 1 .*out_of_range/,
    );
  });

  it('explains by hiding groups of inputs, in shares', async () => {
    const explain = { method: 'occlusion', groups: { t: [0], v: [1] }, reference: [0, 0] };
    const model = await Model.load(folder({ card: { output: { explain } } }));
    const { predictions } = await ask(model, [
      [3, 2],
      [0, 0],
    ]);
    expect(predictions[0]?.contributions).toEqual({ t: 0.5, v: 0.5 });
    // Nothing moves the second: there is nothing to share.
    expect(predictions[1]?.contributions).toBeUndefined();
    const { predictions: bare } = await ask(model, [[3, 2]], false);
    expect(bare[0]?.contributions).toBeUndefined();
    await model.retire();
  });

  it('of anomalies says its threshold and the shares of the graph', async () => {
    const card = { type: 'anomaly', opset: 12, output: { threshold: 4, groups: ['t', 'v'] } };
    const parity = { inputs: [[3, 4]], outputs: { score: [25], contributions: [[0.36, 0.64]] } };
    const model = await Model.load(folder({ onnx: squares(2), card, parity }));
    const { predictions, refused } = await ask(model, [
      [1, 2],
      [0, 0],
    ]);
    expect(predictions[0]).toMatchObject({ score: 5, threshold: 4 });
    expect(predictions[0]?.contributions?.t).toBeCloseTo(0.2);
    // 0/0: shares that are none make the answer none.
    expect(predictions[1]).toBeNull();
    expect(refused.get('contributions')).toBe(1);
    await model.retire();
  });

  it('of classes names the likeliest, of forecasts each metric, of clusters the group', async () => {
    const classes = await Model.load(
      folder({
        onnx: projection(
          'probabilities',
          [
            [1, 0],
            [0, 1],
          ],
          'Softmax',
        ),
        card: { type: 'classification', output: { classes: ['ok', 'bad'] } },
        parity: { inputs: [[0, 0]], outputs: { probabilities: [[0.5, 0.5]] } },
      }),
    );
    const [said] = (await ask(classes, [[0, 2]])).predictions;
    expect(said?.class).toBe('bad');
    expect((said?.probabilities?.ok ?? 0) + (said?.probabilities?.bad ?? 0)).toBeCloseTo(1);
    const forecast = await Model.load(
      folder({
        onnx: projection('forecast', [
          [1, 2],
          [1, 0],
        ]),
        card: { type: 'forecast', output: { metrics: ['t', 'v'], horizonMs: 60_000 } },
        parity: { inputs: [[1, 1]], outputs: { forecast: [[2, 2]] } },
      }),
    );
    expect((await ask(forecast, [[3, 4]])).predictions[0]).toMatchObject({
      forecast: { t: 7, v: 6 },
      horizonMs: 60_000,
    });
    const cluster = await Model.load(
      folder({
        onnx: projection('class', [[1], [0]]),
        card: { type: 'cluster', output: { classes: ['a', 'b'] } },
        parity: { inputs: [[1, 0]], outputs: { class: [1] } },
      }),
    );
    const groups = await ask(cluster, [
      [1, 0],
      [7, 0],
      [0.5, 0],
    ]);
    expect(groups.predictions.map((p) => p?.class ?? null)).toEqual(['b', null, null]);
    expect(groups.refused.get('no_class')).toBe(2);
    await Promise.all([classes, forecast, cluster].map((model) => model.retire()));
  });

  it('answers what it has begun when it is given up, and nothing after that', async () => {
    const model = await Model.load(folder());
    const asked = ask(
      model,
      Array.from({ length: 2_000 }, (_, i) => [i, 0]),
    );
    await model.retire();
    expect((await asked).predictions[1_999]?.value).toBe(3_998.5);
    await expect(ask(model, [[1, 1]])).rejects.toMatchObject({ code: 'inference_down' });
  });

  it('refuses inputs of another width', async () => {
    const model = await Model.load(folder());
    await expect(predictWith(model, { inputs: new Float32Array(3), rows: 1, at: [0] })).rejects.toMatchObject({
      code: 'bad_request',
    });
    await model.retire();
  });
});

describe('a model that is not what it says', () => {
  const lies: [what: string, lie: Lie, why: RegExp][] = [
    ['another hash', { card: { sha256: 'a'.repeat(64) } }, /has the hash .*, the card says a+/],
    ['more inputs', { card: { inputs: inputsOf('a', 'b', 'c') }, parity: PARITY }, /takes 2 inputs|must have 3 values/],
    ['another opset', { card: { opset: 15 } }, /opset 17, the card says 15/],
    ['no such output', { card: { type: 'anomaly', output: { threshold: 1 } } }, /no output "score"/],
    [
      'a wider output',
      {
        onnx: projection('value', [
          [1, 2],
          [3, 4],
        ]),
      },
      /value is 2 wide/,
    ],
    ['other answers', { parity: { ...PARITY, outputs: { value: [8.5, 18] } } }, /row 1 is 18.5, its trainer said 18/],
    ['a row that is NaN and was not', { onnx: linear([Number.NaN, 1], 0) }, /Parity: value of row 0 is NaN/],
    [
      'NaN, as its trainer said',
      { onnx: linear([Number.NaN, 1], 0), parity: { inputs: [[1, 2]], outputs: { value: [null] } } },
      /is NaN/,
    ],
    ['nothing to hold it to', { parity: { inputs: [[1, 2]], outputs: { other: [1] } } }, /must say what value/],
    ['no parity at all', { parity: null }, /parity.json: the file must be an object/],
    ['a tolerance for everything', { parity: { ...PARITY, tolerance: { absolute: 1e9 } } }, /tolerance.absolute/],
    ['an interval of one end', { onnx: interval('lo') }, /lo alone/],
    ['a fixed number of rows', { onnx: fixedRows() }, /takes 1 rows only/],
    ['an input of another name', { onnx: renamed() }, /one input "input"/],
    ['operators of others', { onnx: foreign() }, /not known here|does not take/],
    ['a newer opset', { onnx: newer(), card: { opset: 17 } }, /newer than 17/],
    ['data in other files', { onnx: external() }, /wants data from other files/],
    ['a loop', { onnx: loop() }, /has a Loop/],
    ['a type that is none', { card: { type: 'oracle' } }, /type must be one of/],
    [
      'a card full of holes',
      { card: { inputs: 7, scores: null, kind: '' } },
      /inputs must be.*kind must be.*scores must be/s,
    ],
    [
      'a probability of 8.5',
      { card: { type: 'probability', output: {} } },
      /would be refused by the card: out_of_range/,
    ],
  ];

  it.each(lies)('%s', async (_, lie, why) => {
    expect(await refused(folder(lie))).toMatch(why);
  });

  it('a file that is missing, empty, cut off, garbage, too large, or a folder', async () => {
    const broken = (spoil: (path: string) => void) => {
      const path = folder();
      spoil(path);
      return refused(path);
    };
    const write = (path: string, onnx: Buffer) => {
      writeFileSync(join(path, 'model.onnx'), onnx);
      const card = JSON.parse(readFileSync(join(path, 'card.json'), 'utf8'));
      writeFileSync(join(path, 'card.json'), JSON.stringify({ ...card, sha256: cardOf('m', '1.0.0', onnx).sha256 }));
    };
    expect(await broken((path) => rmSync(join(path, 'model.onnx')))).toMatch(
      /bad_model: model.onnx cannot be read: ENOENT/,
    );
    expect(await broken((path) => rmSync(join(path, 'card.json')))).toMatch(/card.json cannot be read/);
    expect(await broken((path) => truncateSync(join(path, 'parity.json')))).toMatch(/parity.json is empty/);
    expect(await broken((path) => writeFileSync(join(path, 'card.json'), '{"name":'))).toMatch(/not valid JSON/);
    expect(await broken((path) => write(path, linear([2, 3], 0.5).subarray(0, 60)))).toMatch(/not an ONNX file/);
    expect(await broken((path) => write(path, Buffer.from('MZ this is a program')))).toMatch(
      /not an ONNX file|does not take/,
    );
    expect(await broken((path) => write(path, Buffer.alloc(3_000_000, 1)))).toMatch(/more than the 2000000 allowed/);
    expect(await refused(join(root, 'nowhere'))).toMatch(/cannot be read/);
    const pipe = (path: string) => {
      rmSync(join(path, 'card.json'));
      spawnSync('mkfifo', [join(path, 'card.json')]);
    };
    expect(await broken(pipe)).toMatch(/card.json (is no file|cannot be read)/);
  });

  it('a folder of another name', async () => {
    const path = folder();
    await expect(Model.load(path, { name: 'other', version: '1.0.0' })).rejects.toMatchObject({ code: 'bad_model' });
  });

  it('a probability above 1 says nothing', async () => {
    const parity = { inputs: [[0.1, 0]], outputs: { value: [0.7] } };
    const model = await Model.load(folder({ card: { type: 'probability', output: {} }, parity }));
    const { predictions, refused } = await ask(model, [
      [1, 1],
      [0.1, 0],
    ]);
    expect(predictions.map((p) => p?.value ?? null)).toEqual([null, Math.fround(0.7)]);
    expect(refused.get('out_of_range')).toBe(1);
    await model.retire();
  });

  it('names every fault of a card at once', () => {
    expect(() => parseCard('[]')).toThrow(/the card must be an object/);
    expect(() => parseCard(JSON.stringify({ name: 'A', version: '1' }))).toThrow(
      /name must.*version must.*sha256 must/s,
    );
  });
});

function interval(end: string): Buffer {
  return onnxFile({
    inputs: { input: ['N', 2] },
    outputs: { value: ['N', 1], [end]: ['N', 1] },
    constants: { w: { dims: [2, 1], values: [2, 3] }, b: { dims: [1], values: [0.5] } },
    nodes: [
      { op: 'Gemm', inputs: ['input', 'w', 'b'], outputs: ['value'] },
      { op: 'Neg', inputs: ['value'], outputs: [end] },
    ],
  });
}

function fixedRows(): Buffer {
  const nodes = [{ op: 'MatMul', inputs: ['input', 'w'], outputs: ['value'] }];
  const constants = { w: { dims: [2, 1], values: [2, 3] } };
  return onnxFile({ inputs: { input: [1, 2] }, outputs: { value: [1, 1] }, constants, nodes });
}

function renamed(): Buffer {
  const nodes = [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['value'] }];
  const constants = { w: { dims: [2, 1], values: [2, 3] } };
  return onnxFile({ inputs: { x: ['N', 2] }, outputs: { value: ['N', 1] }, constants, nodes });
}

function foreign(): Buffer {
  const nodes = [{ op: 'Trojan', domain: 'com.example', inputs: ['input'], outputs: ['value'] }];
  return onnxFile({ inputs: { input: ['N', 2] }, outputs: { value: ['N', 1] }, nodes, domains: { 'com.example': 1 } });
}

function newer(): Buffer {
  const nodes = [{ op: 'Identity', inputs: ['input'], outputs: ['value'] }];
  return onnxFile({ inputs: { input: ['N', 2] }, outputs: { value: ['N', 1] }, nodes, opset: 21 });
}

function external(): Buffer {
  const nodes = [{ op: 'MatMul', inputs: ['input', 'w'], outputs: ['value'] }];
  const constants = { w: { dims: [2, 1], values: [2, 3], external: true as const } };
  return onnxFile({ inputs: { input: ['N', 2] }, outputs: { value: ['N', 1] }, constants, nodes });
}

function loop(): Buffer {
  const nodes = [{ op: 'Loop', inputs: ['input'], outputs: ['value'] }];
  return onnxFile({ inputs: { input: ['N', 2] }, outputs: { value: ['N', 1] }, nodes });
}
