import type { Prediction } from '../actors/protocol/prediction.ts';

/**
 * How far two versions are apart on one row, 0 to 1: the probability they place differently (half the sum of differences),
 * or the difference of numbers relative to their sizes, the mean of it for a forecast.
 */
export function differenceOf(live: Prediction, shadow: Prediction): number {
  if (live.probabilities && shadow.probabilities) {
    const names = new Set([...Object.keys(live.probabilities), ...Object.keys(shadow.probabilities)]);
    let sum = 0;
    for (const name of names) sum += Math.abs((live.probabilities[name] ?? 0) - (shadow.probabilities[name] ?? 0));
    return sum / 2;
  }
  if (live.class !== undefined || shadow.class !== undefined) return live.class === shadow.class ? 0 : 1;
  if (live.forecast && shadow.forecast) {
    const names = Object.keys(live.forecast);
    const { forecast } = shadow;
    return (
      names.reduce((sum, name) => sum + apart(live.forecast?.[name], forecast[name]), 0) / Math.max(1, names.length)
    );
  }
  return apart(live.value ?? live.score, shadow.value ?? shadow.score);
}

function apart(a: number | undefined, b: number | undefined): number {
  if (a === undefined || b === undefined) return 1;
  const size = Math.abs(a) + Math.abs(b);
  return size === 0 ? 0 : Math.abs(a - b) / size;
}
