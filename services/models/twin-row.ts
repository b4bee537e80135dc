import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Kind, ModelUse } from '../../actors/protocol/kind.ts';
import { needsOf } from '../../actors/protocol/model-use.ts';
import { parseTwinId, shardOf } from '../../actors/protocol/twin-id.ts';
import { featureReader, featuresOf } from '../../actors/runtime/features.ts';
import { H, M } from '../../actors/runtime/layout.ts';
import { activate } from '../../actors/runtime/recovery.ts';
import { metricOffset } from '../../actors/runtime/state.ts';
import { Tunings } from '../../actors/runtime/tunings.ts';
import type { Store } from '../../actors/store/port.ts';

/** What a model would be asked about a twin now: its committed state, folded from the store by whoever asks. */
export interface TwinRow {
  inputs: Float32Array;
  width: number;
  at: number;
}

export interface TwinRowContext {
  kinds: { get(kind: string): Kind };
  store: Pick<Store, 'loadTwins'>;
  settings: { shards: number; latenessMs: number };
}

/** Throws not_found, bad_id, unknown_kind, bad_request where the kind of the twin does not use the model, or the twin lacks what it needs. */
export async function rowOfTwin(context: TwinRowContext, model: string, twinId: string): Promise<TwinRow> {
  const { kinds, store, settings } = context;
  const kind = kinds.get(parseTwinId(twinId).kind);
  const use = Object.values<ModelUse>(kind.models ?? {}).find((each) => each.model === model);
  if (use === undefined)
    throw new TwinmeshError('bad_request', `The kind ${kind.kind} does not use the model ${model}.`);
  const [stored] = await store.loadTwins(shardOf(twinId, settings.shards), [twinId]);
  if (stored === undefined) throw new TwinmeshError('not_found', `There is no twin ${twinId}.`);
  const { activation } = activate(stored, kinds, new Tunings(settings.latenessMs), 0);
  const { n } = activation.state;
  const lacking = needsOf(kind, use).filter((metric) => {
    const m = metricOffset(activation.state, metric);
    return m < 0 || n[m + M.COUNT] === 0;
  });
  if (lacking.length > 0)
    throw new TwinmeshError(
      'bad_request',
      `${model} is not asked about ${twinId}: it has no ${lacking.join(', no ')} yet.`,
    );
  const reader = featureReader(kind, use.inputs);
  const inputs = new Float32Array(reader.width);
  featuresOf(activation.state, reader, inputs, 0);
  return { inputs, width: reader.width, at: n[H.AT] };
}
