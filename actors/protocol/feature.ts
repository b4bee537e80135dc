import type { KindDefinition } from './kind.ts';

/**
 * The names of features (`ModelUse.inputs`): what each means for a kind. Their values are computed in
 * actors/runtime/features.ts.
 */
export const STATISTICS = ['count', 'mean', 'std', 'min', 'max', 'last', 'slope', 'ewma', 'z'] as const;
export type Statistic = (typeof STATISTICS)[number];

export type Feature =
  | { type: 'computed'; name: string }
  | { type: 'hour'; circle: 'sin' | 'cos' }
  | { type: 'reported'; metric: string }
  | { type: 'statistic'; metric: string; window: string; statistic: Statistic }
  | { type: 'filled'; metric: string; window: string }
  | { type: 'panes'; metric: string; window: string; panes: number };

type Named = Pick<KindDefinition, 'metrics' | 'openMetrics' | 'windows' | 'features'>;

/**
 * What a name means: a feature of the kind first, then the hour, then metrics and their windows. Null where it means
 * nothing. Metric names of open kinds may hold dots: the last two parts are a window and a statistic where they can be.
 */
export function parseFeature(kind: Named, name: string): Feature | null {
  if (kind.features !== undefined && Object.hasOwn(kind.features, name)) return { type: 'computed', name };
  if (name === 'time.hour_sin') return { type: 'hour', circle: 'sin' };
  if (name === 'time.hour_cos') return { type: 'hour', circle: 'cos' };
  const known = (metric: string): boolean => kind.openMetrics === true || Object.hasOwn(kind.metrics, metric);
  const statisticAt = name.lastIndexOf('.');
  const windowAt = name.lastIndexOf('.', statisticAt - 1);
  if (windowAt > 0) {
    const metric = name.slice(0, windowAt);
    const window = name.slice(windowAt + 1, statisticAt);
    const what = name.slice(statisticAt + 1);
    if (Object.hasOwn(kind.windows, window) && known(metric)) {
      if (what === 'panes') return { type: 'panes', metric, window, panes: kind.windows[window].panes };
      if (what === 'filled') return { type: 'filled', metric, window };
      const statistic = STATISTICS.find((s) => s === what);
      if (statistic !== undefined) return { type: 'statistic', metric, window, statistic };
    }
  }
  return known(name) && name.length > 0 ? { type: 'reported', metric: name } : null;
}

/** Names of the inputs one by one, as a model card lists them: `t.1h.panes` becomes `t.1h.panes[0]`, oldest first, and so on. */
export function featureNames(kind: Named, inputs: readonly string[]): string[] {
  return inputs.flatMap((name) => {
    const feature = parseFeature(kind, name);
    if (feature?.type !== 'panes') return [name];
    return Array.from({ length: feature.panes }, (_, i) => `${name}[${i}]`);
  });
}

/** Metrics that features speak of, each once; those behind computed features are not known. */
export function metricsBehind(kind: Named, inputs: readonly string[]): string[] {
  const metrics = new Set<string>();
  for (const name of inputs) {
    const feature = parseFeature(kind, name);
    if (feature !== null && 'metric' in feature) metrics.add(feature.metric);
  }
  return [...metrics];
}
