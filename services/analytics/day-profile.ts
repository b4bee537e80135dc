import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { Bucket } from '../../actors/store/queries/downsample.ts';
import { type BucketStatistics, type Moments, merged, statistics } from '../../actors/store/queries/moments.ts';
import { HOUR_MS, MINUTE_MS } from '../../actors/store/queries/span.ts';

/** What a metric does over the hours of the day, in a time zone. */
export interface HourProfile extends BucketStatistics {
  hour: number;
  /** Buckets the quantiles are over. */
  buckets: number;
  /** Quantiles of the buckets' averages, interpolated linearly between the two next to them. */
  p05: number;
  p25: number;
  p50: number;
  p75: number;
  p95: number;
}

const QUANTILES = { p05: 0.05, p25: 0.25, p50: 0.5, p75: 0.75, p95: 0.95 } as const;

/** A time zone as a caller named it. Throws `bad_request`. */
export class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;

  constructor(name: string) {
    this.name = name;
    try {
      this.#format = new Intl.DateTimeFormat('en-GB', {
        timeZone: name,
        hourCycle: 'h23',
        hour: '2-digit',
        minute: '2-digit',
      });
    } catch {
      throw new TwinmeshError(
        'bad_request',
        `tz: "${name.slice(0, 60)}" is no time zone; write one such as Europe/Berlin or UTC.`,
      );
    }
  }

  /** Hour of the day, 0 to 23. */
  hourAt(at: number): number {
    return Number(this.#format.format(at).slice(0, 2));
  }

  /** The longest step whose buckets never cross an hour of the zone, which is not everywhere a whole hour off UTC. */
  stepMs(from: number, to: number): number {
    let stepMs = HOUR_MS;
    // Rules change on few days: the ends and a look each week tell.
    for (let at = Math.floor(from / HOUR_MS) * HOUR_MS; ; at = Math.min(to, at + 7 * 24 * HOUR_MS)) {
      const minutes = Number(this.#format.format(Math.floor(at / HOUR_MS) * HOUR_MS).slice(3));
      if (minutes !== 0) stepMs = Math.min(stepMs, minutes === 30 ? 30 * MINUTE_MS : 15 * MINUTE_MS);
      if (at >= to) return stepMs;
    }
  }
}

/** Mean and spread are those of the readings; quantiles are over the buckets' averages. Hours without a reading are left out. */
export function profileOf(buckets: readonly Bucket[], zone: Zone): Record<string, HourProfile[]> {
  const found = new Map<string, Map<number, { moments: Moments; averages: number[] }>>();
  for (const { at, metrics } of buckets) {
    const hour = zone.hourAt(Date.parse(at));
    for (const [metric, { count, avg, min, max, std }] of Object.entries(metrics)) {
      const hours = found.get(metric) ?? new Map<number, { moments: Moments; averages: number[] }>();
      found.set(metric, hours);
      const part: Moments = { count, mean: avg, m2: (std ?? 0) ** 2 * (count - 1), min, max };
      const there = hours.get(hour);
      if (there === undefined) hours.set(hour, { moments: part, averages: [avg] });
      else {
        there.moments = merged(there.moments, part);
        there.averages.push(avg);
      }
    }
  }
  return Object.fromEntries(
    [...found.entries()].map(([metric, hours]) => [
      metric,
      [...hours.entries()]
        .sort(([a], [b]) => a - b)
        .map(([hour, { moments, averages }]) => ({
          hour,
          ...statistics(moments),
          buckets: averages.length,
          ...quantilesOf(averages),
        })),
    ]),
  );
}

function quantilesOf(values: number[]): Record<keyof typeof QUANTILES, number> {
  const sorted = values.sort((a, b) => a - b);
  const at = (q: number) => {
    const place = q * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
  };
  return Object.fromEntries(Object.entries(QUANTILES).map(([name, q]) => [name, at(q)])) as Record<
    keyof typeof QUANTILES,
    number
  >;
}
