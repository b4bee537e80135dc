import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { Batcher } from '../models/batcher.ts';
import { misfitOf } from '../models/fit.ts';
import { ModelRegistry, type RegistryWatch } from '../models/registry.ts';
import { DriftBook } from './drift/book.ts';
import { ModelKeeper } from './inference/keeper.ts';
import type { InferenceNode, Probed } from './inference/node.ts';
import { fromWire, type WireAnswer } from './inference/wire.ts';
import { InferenceMetrics } from './metrics/inference.ts';

/**
 * Runs the models of this node for whoever asks. What is loaded follows the register (models.service.ts); questions wait in a
 * bounded queue and go through a model together.
 */
interface Inference {
  registry: ModelRegistry;
  batcher: Batcher;
  keeper: ModelKeeper;
  /** What models are asked, for their drift. */
  book: DriftBook;
}

const BUILT_IN = fileURLToPath(new URL('../models/', import.meta.url));
/** A change that this node was not told of is found after so long. */
const LOOK_EVERY_MS = 5_000;
/** Share of its deadline that a question waits for its model to be loaded. */
const PATIENCE = 0.6;

const inference: PartsSchema<Inference> = {
  name: 'inference',
  metadata: { role: 'inference' },
  mixins: [partsMixin],

  actions: {
    /** Asked by hosts and gateways, not over HTTP. */
    predict: {
      visibility: 'public',
      async handler(ctx: Context): Promise<WireAnswer> {
        const { request, deadlineMs, explain, aside } = fromWire(ctx.params);
        // At a start it may be a moment away.
        await this.keeper.settled(request.model, deadlineMs * PATIENCE);
        const predictions = await this.batcher.ask(request, deadlineMs, explain);
        const card = this.registry.card(request.model);
        if (!aside && card !== null && card.inputs.length * request.rows === request.inputs.length)
          this.book.observe(card, request);
        return { predictions };
      },
    },

    status: {
      visibility: 'public',
      handler(): InferenceNode {
        return {
          node: this.parts.settings.nodeId,
          loaded: this.registry.loaded(),
          refused: this.registry.refused(),
          waitingRows: this.batcher.waitingRows,
        };
      },
    },

    /** Whether this node could use a version: it is loaded beside the live one and given up again. Changes nothing. */
    probe: {
      visibility: 'public',
      params: { name: 'string', version: 'string', sha256: 'string' },
      async handler(ctx: Context<{ name: string; version: string; sha256: string }>): Promise<Probed> {
        const { name, version, sha256 } = ctx.params;
        return { node: this.parts.settings.nodeId, reason: await this.registry.probe(name, version, sha256) };
      },
    },

    /** Looks at the register now; answers when what it says is loaded. */
    refresh: {
      visibility: 'public',
      async handler(): Promise<void> {
        await this.keeper.look();
      },
    },
  },

  events: {
    // Twins and doors are up first, predictions follow within seconds.
    '$broker.started'() {
      this.keeper?.start();
    },

    'models.changed'() {
      void this.keeper?.look();
    },
  },

  async started() {
    const { settings, sql, clock, metrics, logger, kinds } = this.parts;
    const log = logger.child({ part: 'inference' });
    const told = new InferenceMetrics(metrics.registry);
    const roots = [BUILT_IN, resolve(settings.modelsDir ?? join(settings.dataDir, 'models'))];
    const watch: RegistryWatch = {
      answered({ card: { name, version } }, { predictions, refused }, durationMs) {
        const nulls = [...refused.values()].reduce((sum, rows) => sum + rows, 0);
        told.answered(name, version, predictions.length - nulls, durationMs / 1000);
        for (const [reason, rows] of refused) told.refused(name, reason, rows);
      },
      compared: (_live, { card: { name, version } }, differences) => told.compared(name, version, differences),
      swapped(name, from, to) {
        told.swapped(name);
        log[from === null ? 'debug' : 'info']({ model: name, from, to }, 'another version of a model answers');
      },
      refused: (refused) => log.warn({ ...refused }, 'a model was refused'),
    };
    this.registry = new ModelRegistry(roots, watch, (card) => misfitOf(card, kinds.all()));
    this.book = new DriftBook({
      sql,
      clock,
      node: settings.nodeId,
      onFault: (err) => log.warn({ err }, 'what models were asked could not be written down'),
    });
    this.batcher = new Batcher({
      clock,
      run: async (request, explain) => {
        try {
          return await this.registry.predict(request, { explain });
        } catch (error) {
          if (!(error instanceof TwinmeshError) || error.code !== 'bad_model') throw error;
          // The graph failed on these rows: of this model alone.
          told.refused(request.model, 'failed', request.rows);
          throw new TwinmeshError('inference_down', error.message, { model: request.model }, { cause: error });
        }
      },
      onBatch: (rows) => told.batch(rows),
      onRefused: (reason, rows) => told.refused('', reason, rows),
    });
    this.keeper = new ModelKeeper({
      registry: this.registry,
      sql,
      clock,
      everyMs: LOOK_EVERY_MS,
      sources: ['built in', 'models folder'],
      onRegistered: (model) => log.debug({ model }, 'a model is registered'),
      onBegan: (model) => log.info({ model }, 'a model is live'),
      onFault: (err) => log.warn({ err }, 'the register of models could not be read; what is loaded goes on'),
    });
    if (this.broker.started) this.keeper.start();
  },

  async stopped() {
    await this.book?.close();
    await this.keeper?.close();
  },
};

export default inference;
