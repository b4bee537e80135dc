import type { InferenceSession } from 'onnxruntime-node';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * ONNX Runtime behind a narrow door, and the only place that imports it: on the CPU, one thread, one model a session.
 *
 *  1  `run` computes on the thread that calls it, in one piece: whoever has many rows hands them over in slices.
 *  2  What comes out is float32 of N rows, or it is refused: `bad_model`.
 *  3  A session that has been closed answers nothing; what it was computing it answers still.
 *
 * The library is loaded with the first model, not with this file: a node without models does without it.
 */
export interface Tensors {
  /** Rows × width of the output, by name. */
  [name: string]: { data: Float32Array; width: number };
}

export interface OnnxSession {
  /** Widths of the declared outputs; null where the graph leaves it open. */
  readonly outputs: ReadonlyMap<string, number | null>;
  /** Width of the one input; null where the graph leaves it open. */
  readonly width: number | null;
  /** Rows × width, row by row. Throws bad_model. */
  run(inputs: Float32Array, rows: number, names: readonly string[]): Promise<Tensors>;
  close(): Promise<void>;
}

export const INPUT = 'input';

/**
 * Since 1.29 the library reports its sessions to its maker and keeps an identifier of the machine in the home folder, unless
 * this is set before it is loaded. Nothing here calls home, whatever the environment says. Here, not where it is loaded: only
 * the main thread can set it for the whole process.
 */
process.env.ORT_DISABLE_TELEMETRY = '1';

/** Throws bad_model where the runtime does not take the file, or it is not of one float32 input `[N, width]`. */
export async function openOnnx(bytes: Uint8Array): Promise<OnnxSession> {
  const { InferenceSession: Session, Tensor } = await import('onnxruntime-node');
  const session = await Session.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    // Errors only: what it warns of is how it optimizes.
    logSeverityLevel: 3,
  }).catch((error: unknown) => {
    throw new TwinmeshError('bad_model', `ONNX Runtime does not take model.onnx: ${firstLine(error)}`);
  });
  try {
    const width = inputWidth(session);
    const outputs = new Map(session.outputMetadata.map((meta) => [meta.name, outputWidth(meta)]));
    return {
      width,
      outputs,
      async run(inputs, rows, names) {
        const columns = inputs.length / rows;
        const answer = await session
          .run({ [INPUT]: new Tensor('float32', inputs, [rows, columns]) }, names)
          .catch((error: unknown) => {
            throw new TwinmeshError('bad_model', `The model could not be run: ${firstLine(error)}`);
          });
        const tensors: Tensors = {};
        for (const name of names) {
          const { data, dims, type } = answer[name];
          if (type !== 'float32' || !(data instanceof Float32Array) || dims[0] !== rows || data.length % rows !== 0)
            throw new TwinmeshError(
              'bad_model',
              `Output ${name} is ${type} [${dims.join(', ')}] for ${rows} rows, not float32 [${rows}, …].`,
            );
          tensors[name] = { data, width: data.length / rows };
        }
        return tensors;
      },
      close: () => session.release(),
    };
  } catch (error) {
    await session.release();
    throw error;
  }
}

type Meta = InferenceSession.ValueMetadata;

function inputWidth(session: InferenceSession): number | null {
  const [meta, more] = session.inputMetadata;
  if (meta === undefined || more !== undefined || meta.name !== INPUT || !meta.isTensor || meta.type !== 'float32')
    throw new TwinmeshError('bad_model', `model.onnx must have one input "${INPUT}" of float32.`);
  if (meta.shape.length !== 2) throw new TwinmeshError('bad_model', `Input "${INPUT}" must be [N, width].`);
  const [rows, width] = meta.shape;
  if (typeof rows === 'number')
    throw new TwinmeshError('bad_model', `Input "${INPUT}" takes ${rows} rows only; N must be open.`);
  return typeof width === 'number' ? width : null;
}

function outputWidth(meta: Meta): number | null {
  if (!meta.isTensor) return null;
  const width = meta.shape[1];
  return typeof width === 'number' ? width : null;
}

function firstLine(error: unknown): string {
  return messageOf(error).split('\n')[0].slice(0, 300);
}
