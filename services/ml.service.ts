import type { Context } from 'moleculer';
import { TwinmeshError } from '../actors/protocol/errors.ts';
import type { Prediction } from '../actors/protocol/prediction.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import type { ModelCard } from '../models/card.ts';
import { TEXT, TIME } from './gateway/list-schema.ts';
import { liveCard } from './models/register.ts';
import { type NamedInputs, writeRow } from './models/row.ts';
import { rowOfTwin } from './models/twin-row.ts';

/** Models asked by people and programs: about inputs that they send, or about a twin as it is. Nothing is stored of it. */
const MAX_ROWS = 1_000;
const MODEL = {
  type: 'string',
  pattern: /^[a-z][a-z0-9-]{0,47}$/,
  description: 'Name of the model.',
  example: 'machine-rul',
} as const;
const INPUTS = {
  type: 'object',
  optional: true,
  description: 'Values by the names that the card lists; left out or null where one is missing.',
} as const;
const TWIN = {
  type: 'string',
  max: 160,
  optional: true,
  description: 'In place of inputs: this twin, as it is committed.',
  example: 'machine:MACHINE_001',
} as const;
const NUMBER = { type: 'number' };
const NUMBERS = { type: 'object', additionalProperties: NUMBER };
const PREDICTION = {
  type: 'object',
  required: ['model', 'at'],
  properties: {
    model: { type: 'string', description: 'name@version of the model that said it.', examples: ['machine-rul@1.0.0'] },
    at: { ...TIME, description: 'Event time it is based on.' },
    value: NUMBER,
    unit: TEXT,
    interval: { type: 'array', items: NUMBER, minItems: 2, maxItems: 2 },
    score: NUMBER,
    threshold: NUMBER,
    contributions: { ...NUMBERS, description: 'Shares, sum 1.' },
    class: TEXT,
    probabilities: NUMBERS,
    horizonMs: NUMBER,
    forecast: NUMBERS,
    forecastLo: NUMBERS,
    forecastHi: NUMBERS,
  },
};

interface Asked {
  inputs?: NamedInputs;
  twinId?: string;
}

/** With the time as everywhere in the API, ISO 8601. */
type Told = Omit<Prediction, 'at'> & { at: string };

function told(said: Prediction): Told {
  return { ...said, at: new Date(said.at).toISOString() };
}

interface Ml {
  one(model: string, asked: Asked, type?: ModelCard['type']): Promise<Told>;
}

const ml: PartsSchema<Ml> = {
  name: 'ml',
  metadata: { role: 'history' },
  mixins: [partsMixin],

  actions: {
    predict: {
      rest: 'POST /api/v1/ml/:model/predict',
      role: 'viewer',
      audit: false,
      params: { model: MODEL, inputs: INPUTS, twinId: TWIN },
      openapi: {
        summary: 'What a model says of inputs, or of a twin as it is',
        description: 'The live version is asked, beside the questions of twins. Nothing is stored of it.',
        tags: ['models'],
        bodyExample: { twinId: 'machine:MACHINE_001' },
        response: PREDICTION,
      },
      handler(ctx: Context<{ model: string } & Asked>) {
        return this.one(ctx.params.model, ctx.params);
      },
    },

    forecast: {
      rest: 'POST /api/v1/ml/:model/forecast',
      role: 'viewer',
      audit: false,
      params: { model: MODEL, inputs: INPUTS, twinId: TWIN },
      openapi: {
        summary: 'What a forecasting model expects of metrics',
        description:
          'The live version is asked, about the inputs or about the twin. `bad_request` for a model that is of another type.',
        tags: ['models'],
        bodyExample: { twinId: 'mote:7' },
        response: PREDICTION,
      },
      handler(ctx: Context<{ model: string } & Asked>) {
        return this.one(ctx.params.model, ctx.params, 'forecast');
      },
    },

    batch: {
      rest: 'POST /api/v1/ml/:model/predict/batch',
      role: 'viewer',
      audit: false,
      params: {
        model: MODEL,
        rows: {
          type: 'array',
          items: 'object',
          min: 1,
          max: MAX_ROWS,
          description: 'Inputs by name, a row each.',
        },
      },
      openapi: {
        summary: 'What a model says of many rows',
        description: 'In their order; null where the model has no answer that stands.',
        tags: ['models'],
        bodyExample: { rows: [{ temperature: 61.5 }, { temperature: 80 }] },
        response: {
          type: 'object',
          required: ['predictions'],
          properties: { predictions: { type: 'array', items: { anyOf: [PREDICTION, { type: 'null' }] } } },
        },
      },
      async handler(ctx: Context<{ model: string; rows: NamedInputs[] }>) {
        const { model, rows } = ctx.params;
        const card = await liveCard(this.parts.sql, model);
        const width = card.inputs.length;
        const inputs = new Float32Array(rows.length * width);
        for (const [i, row] of rows.entries())
          try {
            writeRow(card, row, inputs, i * width);
          } catch (error) {
            if (error instanceof TwinmeshError) throw new TwinmeshError(error.code, `rows[${i}]: ${error.message}`);
            throw error;
          }
        const now = this.parts.clock.now();
        const { predictions } = await this.parts.predictor.aside.predict({
          model,
          inputs,
          rows: rows.length,
          at: rows.map(() => now),
        });
        return { predictions: predictions.map((said) => said && told(said)) };
      },
    },
  },

  methods: {
    async one(model: string, { inputs: named, twinId }: Asked, type?: ModelCard['type']): Promise<Told> {
      const { sql, predictor, clock } = this.parts;
      if ((named === undefined) === (twinId === undefined))
        throw new TwinmeshError('bad_request', 'Send inputs or a twinId, one of the two.');
      const card = await liveCard(sql, model);
      if (type !== undefined && card.type !== type)
        throw new TwinmeshError('bad_request', `${model} is a model of ${card.type}, not of ${type}; ask …/predict.`);
      let inputs: Float32Array = new Float32Array(card.inputs.length);
      let at = clock.now();
      if (twinId !== undefined) ({ inputs, at } = await rowOfTwin(this.parts, model, twinId));
      else writeRow(card, named as NamedInputs, inputs, 0);
      const [said] = (await predictor.aside.predict({ model, inputs, rows: 1, at: [at] })).predictions;
      if (said === null) {
        const message = `${model} has no answer that stands: an input is missing, or what it said is out of the range its card states.`;
        throw new TwinmeshError('bad_request', message);
      }
      return told(said);
    },
  },
};

export default ml;
