import { createHash } from 'node:crypto';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { answerOf, rowRefusal } from './answers.ts';
import { MAX_CARD_BYTES, MAX_OPSET, type ModelCard, parseCard } from './card.ts';
import { readLimited } from './folder.ts';
import { type OnnxSession, openOnnx, type Tensors } from './onnx.ts';
import { readOnnx } from './onnx-file.ts';
import { partOf } from './onnx-part.ts';
import { MAX_PARITY_BYTES, type Parity, parseParity } from './parity.ts';

/**
 * A loaded model: its card and a session that has shown that it does what the card says.
 *
 * Owns the session and how long it lives. Does not own what the numbers mean (answers.ts) nor which version is live (registry.ts).
 *
 *  1  Nothing of a folder is believed: hash, size, operators, names, widths, and the trainer's own answers on sample rows (right,
 *     and none that the card would refuse) are checked before `load` answers. Whatever does not hold is `bad_model` with the reason.
 *  2  A model that is given up (`retire`) answers what it has begun; its session is closed after the last of it.
 *  3  One run takes `SLICE_ROWS` rows at most: between runs the thread is anybody's.
 *  4  What is explained is run by itself where that is much less than the whole graph, in a session of its own that has shown to
 *     give the same numbers, bit by bit, on the sample rows.
 */
export const MAX_MODEL_BYTES = 2_000_000;
/** Takes the thread for 2 ms at most with any of our graphs. A row of trees costs 4 % less in runs of 512, one of a dense network 26 %. */
export const SLICE_ROWS = 64;
const MAX_ML_OPSET = 3;
/** A part of the graph gets a session of its own, which holds its weights once more, from so small a share of the file on. */
const WORTH_A_SESSION = 0.75;

export class Model {
  readonly card: ModelCard;
  /** `name@version`. */
  readonly id: string;
  readonly path: string;
  readonly bytes: number;
  /** Outputs that are fetched, with their widths. */
  readonly outputs: ReadonlyMap<string, number>;
  readonly #session: OnnxSession;
  readonly #names: readonly string[];
  /** The output that is explained by hiding inputs. */
  readonly #explained: readonly [string];
  /** Only as much of the graph as that output needs; null where it needs most of it. */
  #part: OnnxSession | null = null;
  #running = 0;
  #isRetired = false;

  /** Throws bad_model, where the folder is not exactly this model in this version too. */
  static async load(path: string, expected?: { name: string; version: string; sha256?: string }): Promise<Model> {
    const card = parseCard((await readLimited(path, 'card.json', MAX_CARD_BYTES)).toString('utf8'));
    if (expected && (card.name !== expected.name || card.version !== expected.version))
      throw bad(`The card is of ${card.name}@${card.version}, the folder of ${expected.name}@${expected.version}.`);
    const bytes = await readLimited(path, 'model.onnx', MAX_MODEL_BYTES);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    if (sha256 !== card.sha256) throw bad(`model.onnx has the hash ${sha256}, the card says ${card.sha256}.`);
    if (expected?.sha256 !== undefined && sha256 !== expected.sha256)
      throw bad(
        `model.onnx is not the file that was registered as ${card.name}@${card.version}: a version never changes.`,
      );
    checkFile(card, bytes);
    const parity = parseParity(
      (await readLimited(path, 'parity.json', MAX_PARITY_BYTES)).toString('utf8'),
      card.inputs.length,
    );
    const session = await openOnnx(bytes);
    try {
      const model = new Model(card, path, bytes.length, session);
      await model.#prove(parity);
      if (card.output.explain?.method === 'occlusion') await model.#openPart(bytes, parity);
      return model;
    } catch (error) {
      await session.close();
      throw error instanceof TwinmeshError ? error : bad(`It cannot be loaded: ${messageOf(error)}`);
    }
  }

  private constructor(card: ModelCard, path: string, bytes: number, session: OnnxSession) {
    this.card = card;
    this.id = `${card.name}@${card.version}`;
    this.path = path;
    this.bytes = bytes;
    this.#session = session;
    const { width, outputs } = session;
    if (width !== null && width !== card.inputs.length)
      throw bad(`model.onnx takes ${width} inputs, the card lists ${card.inputs.length}.`);
    this.outputs = wantedOutputs(card, new Set(outputs.keys()));
    this.#names = [...this.outputs.keys()];
    this.#explained = [EXPLAINED.find((name) => this.outputs.has(name)) ?? this.#names[0]];
    for (const [name, wanted] of this.outputs) {
      const declared = outputs.get(name);
      if (declared !== null && declared !== wanted)
        throw bad(`Output ${name} is ${declared} wide, the card makes it ${wanted}.`);
    }
  }

  /** Rows × width in, rows × width of each output out. Throws bad_model, inference_down. */
  async run(inputs: Float32Array, rows: number): Promise<Tensors> {
    return this.holding(() => this.#run(inputs, rows));
  }

  /** The same of at most `SLICE_ROWS` rows, and of the output that is explained only. Throws bad_model, inference_down. */
  async runExplained(inputs: Float32Array, rows: number): Promise<Tensors> {
    return this.holding(() => this.#slice(inputs, rows, this.#part ?? this.#session, this.#explained));
  }

  /** Keeps the session while `work` runs, however often that runs the model. Throws inference_down where it has been given up. */
  async holding<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isRetired && this.#running === 0)
      throw new TwinmeshError('inference_down', `${this.id} has been given up.`, { model: this.card.name });
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
      if (this.#isRetired && this.#running === 0) await this.#close();
    }
  }

  /** The session is closed after what runs; from then on it answers nothing. */
  async retire(): Promise<void> {
    if (this.#isRetired) return;
    this.#isRetired = true;
    if (this.#running === 0) await this.#close();
  }

  get isRetired(): boolean {
    return this.#isRetired;
  }

  async #run(inputs: Float32Array, rows: number): Promise<Tensors> {
    const width = this.card.inputs.length;
    if (rows <= SLICE_ROWS) return this.#slice(inputs, rows);
    const whole: Tensors = {};
    for (const [name, columns] of this.outputs)
      whole[name] = { data: new Float32Array(rows * columns), width: columns };
    for (let start = 0; start < rows; start += SLICE_ROWS) {
      const count = Math.min(SLICE_ROWS, rows - start);
      const part = await this.#slice(inputs.subarray(start * width, (start + count) * width), count);
      for (const [name, { data }] of Object.entries(part)) whole[name].data.set(data, start * whole[name].width);
    }
    return whole;
  }

  async #slice(inputs: Float32Array, rows: number, session = this.#session, names = this.#names): Promise<Tensors> {
    const tensors = await session.run(inputs, rows, names);
    for (const name of names) {
      const { width } = tensors[name];
      const wanted = this.outputs.get(name);
      if (width !== wanted) throw bad(`${this.id}: output ${name} came ${width} wide, the card makes it ${wanted}.`);
    }
    return tensors;
  }

  async #close(): Promise<void> {
    await this.#session.close();
    await this.#part?.close();
  }

  /** A part that cannot be run, or that the runtime optimizes into other numbers, is done without: the whole gives the same. */
  async #openPart(bytes: Uint8Array, parity: Parity): Promise<void> {
    const [name] = this.#explained;
    const part = partOf(bytes, name);
    if (part === null || part.length > WORTH_A_SESSION * bytes.length) return;
    const session = await openOnnx(part).catch(() => null);
    if (session === null) return;
    if (await this.#isAlike(session, parity).catch(() => false)) this.#part = session;
    else await session.close();
  }

  async #isAlike(session: OnnxSession, { inputs, rows }: Parity): Promise<boolean> {
    const [name] = this.#explained;
    for (const count of [1, Math.min(rows, SLICE_ROWS)]) {
      const asked = inputs.subarray(0, count * this.card.inputs.length);
      const whole = (await this.#slice(asked, count))[name].data;
      const alone = (await this.#slice(asked, count, session, this.#explained))[name].data;
      if (!whole.every((x, i) => Object.is(x, alone[i]))) return false;
    }
    return true;
  }

  /** What the trainer answered on sample rows, it has to answer as well; as a batch and row by row. */
  async #prove(parity: Parity): Promise<void> {
    const width = this.card.inputs.length;
    const batch = await this.#run(parity.inputs, parity.rows);
    const alone = await this.#run(parity.inputs.subarray(0, width), 1);
    const claimed = this.#names.filter((name) => parity.outputs.has(name));
    if (claimed.length === 0) throw bad(`parity.json must say what ${this.#names.join(' or ')} has to be.`);
    for (const name of claimed) {
      const wanted = parity.outputs.get(name) as Float64Array;
      if (wanted.length !== batch[name].data.length)
        throw bad(`parity.json: outputs.${name} must be ${batch[name].width} wide.`);
      const check = (got: Float32Array) => {
        for (let i = 0; i < got.length; i++)
          if (!isNear(got[i], wanted[i], parity.tolerance))
            throw bad(
              `Parity: ${name} of row ${Math.floor(i / batch[name].width)} is ${got[i]}, its trainer said ${wanted[i]}.`,
            );
      };
      check(batch[name].data);
      check(alone[name].data);
    }
    for (let i = 0; i < parity.rows; i++) {
      if (rowRefusal(this.card, parity.inputs, i) !== null) continue;
      const said = answerOf(this, batch, i);
      if (typeof said === 'string')
        throw bad(
          `Parity: the answer to row ${i} is what its trainer said, and would be refused by the card: ${said}.`,
        );
    }
  }
}

function isNear(got: number, wanted: number, { absolute, relative }: Parity['tolerance']): boolean {
  return Math.abs(got - wanted) <= absolute + relative * Math.abs(wanted);
}

function checkFile(card: ModelCard, bytes: Uint8Array): void {
  const file = readOnnx(bytes);
  if (file.externalData) throw bad('model.onnx wants data from other files; it has to hold all of it.');
  for (const [domain, version] of file.opsets) {
    const most = domain === '' ? MAX_OPSET : domain === 'ai.onnx.ml' ? MAX_ML_OPSET : 0;
    if (version > most) {
      const sentence = most === 0 ? 'is not known here' : `is newer than ${most}`;
      throw bad(`Its operators of ${domain || 'ai.onnx'} ${version}: that set ${sentence}.`);
    }
  }
  const opset = file.opsets.get('');
  if (opset !== undefined && opset !== card.opset)
    throw bad(`model.onnx has opset ${opset}, the card says ${card.opset}.`);
  // The only one that may go on for ever.
  if (file.operators.has('Loop')) throw bad('model.onnx has a Loop, which may never end.');
}

/** Outputs that say one number of a row, or (the last) the share of a class. */
const EXPLAINED = ['value', 'score', 'probabilities'];

/** What is fetched of a graph that has these outputs, with the width that the card gives each. */
function wantedOutputs({ type, output }: ModelCard, there: ReadonlySet<string>): Map<string, number> {
  const wanted = new Map<string, number>();
  const need = (name: string, width: number): void => {
    if (!there.has(name))
      throw bad(`model.onnx has no output "${name}", which ${type} needs; it has ${[...there].join(', ')}.`);
    wanted.set(name, width);
  };
  if (type === 'regression' || type === 'probability') need('value', 1);
  if (type === 'anomaly') need('score', 1);
  if (type === 'classification') need('probabilities', output.classes?.length ?? 0);
  if (type === 'forecast') need('forecast', output.metrics?.length ?? 0);
  if (type === 'cluster') {
    if (there.has('probabilities')) need('probabilities', output.classes?.length ?? 0);
    else need('class', 1);
  }
  const spans = ['lo', 'hi'].filter((name) => there.has(name));
  const hasInterval = type === 'regression' || type === 'forecast';
  if (hasInterval && spans.length === 1) throw bad(`model.onnx has ${spans[0]} alone; an interval has lo and hi.`);
  if (hasInterval) for (const name of spans) wanted.set(name, type === 'forecast' ? (output.metrics?.length ?? 0) : 1);
  const isExplained =
    output.explain?.method === 'graph' || (type === 'anomaly' && there.has('contributions') && output.groups);
  if (isExplained) need('contributions', output.groups?.length ?? 0);
  return wanted;
}

function bad(sentence: string): TwinmeshError {
  return new TwinmeshError('bad_model', sentence);
}
