import { type Span, spanOf } from '../../actors/store/queries/span.ts';

/** Params of a span of time, under the names that the environmental-sensor clients use too. */
const TIME = (description: string) =>
  ({
    type: 'multi',
    rules: [{ type: 'string', max: 40 }, { type: 'number' }],
    optional: true,
    description: `${description} ISO 8601 or epoch seconds or milliseconds.`,
  }) as const;

export const SPAN_PARAMS = {
  from: TIME('From this time on (in it).'),
  to: TIME('Up to this time (not in it).'),
} as const;

export const START_END_PARAMS = {
  start: TIME('From this time on (in it).'),
  end: TIME('Up to this time (not in it).'),
} as const;

type Time = string | number | undefined;

export interface SpanParams {
  from?: Time;
  to?: Time;
}

export interface StartEndParams {
  start?: Time;
  end?: Time;
}

/** Throws bad_request. */
export function spanOfParams({ from, to }: SpanParams): Partial<Span> {
  return spanOf(from, to);
}

/** Throws bad_request. */
export function spanOfStartEnd({ start, end }: StartEndParams): Partial<Span> {
  return spanOf(start, end, ['start', 'end']);
}

export const KIND = { type: 'string', max: 31, description: 'Kind of asset.', example: 'machine' } as const;
export const METRIC = {
  type: 'string',
  max: 1000,
  optional: true,
  description: 'Names of metrics, separated by commas; default all.',
  example: 'temperature',
} as const;
export const TWIN_ID = { type: 'string', max: 160, description: 'kind:id', example: 'machine:MACHINE_001' } as const;
