import { linear, writeModel } from '../fixtures/onnx.ts';

/** The model that twins of the harness ask: simple enough to know what it has to say of any state. */
const WEIGHTS = [2, 1] as const;
const BIAS = 3;

export function levelOf(load: number, temperature: number): number {
  return WEIGHTS[0] * load + WEIGHTS[1] * temperature + BIAS;
}

/** Writes it where nodes look for models. */
export function writeCounterModel(root: string): void {
  const inputs = ['load', 'temperature'].map((name) => ({ name, unit: '', min: -1e6, max: 1e6, missing: 'required' }));
  writeModel(root, {
    name: 'counter-level',
    version: '1.0.0',
    onnx: linear(WEIGHTS, BIAS),
    parity: { inputs: [[100, 20]], outputs: { value: [levelOf(100, 20)] } },
    card: { kind: 'counter', inputs },
  });
}
