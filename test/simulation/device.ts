import { gaussian, type Random } from '../../actors/protocol/clock.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { twinIdOf } from '../../actors/protocol/twin-id.ts';
import { LATENESS_MS } from './cluster.ts';
import { KILLER, POISON, UNSTORABLE } from './kind.ts';

/** How a device names its readings: by time and metrics, by a running number, by an id of their own. */
type Naming = 'time' | 'seq' | 'key';

/** How likely readings are over which folding throws, that kill the process, that cannot be stored. */
export interface Danger {
  poison: number;
  killer: number;
  unstorable: number;
}

/** One asset: numbered readings, some of them twice, out of order, too late, or in conflict with what it said before. */
export class Device {
  readonly kind: string;
  readonly id: string;
  readonly twinId: string;
  readonly #naming: Naming;
  readonly #random: Random;
  readonly #said: Reading[] = [];
  #number = 0;
  #lastAt = 0;
  #temperature = 40;
  #target = 40;
  #load = 200;
  readonly #danger: Danger;

  /** `predicted`: models are asked about every other one. */
  constructor(index: number, random: Random, danger: Danger, predicted: boolean) {
    this.#danger = danger;
    this.kind = index % 4 === 3 ? 'pod' : predicted && index % 2 === 0 ? 'gauge' : 'probe';
    this.id = `d${index}`;
    this.twinId = twinIdOf(this.kind, this.id);
    this.#naming = (['time', 'seq', 'key'] as const)[index % 3];
    this.#random = random;
  }

  static isBad({ values }: Reading): boolean {
    return (values.mark ?? 0) >= POISON || values.load === UNSTORABLE;
  }

  /** How long until it speaks again; now and then it falls silent. */
  pauseMs(): number {
    const draw = this.#random();
    if (draw < 0.02) return 5_000 + draw * 400_000;
    return 80 + draw * 700;
  }

  speak(now: number): Reading[] {
    const draw = this.#random();
    const before = this.#said.length > 0 ? this.#said[Math.floor(this.#random() * this.#said.length)] : null;
    if (before && draw < 0.05) return [structuredClone(before)];
    if (before && draw < 0.07 && this.#naming !== 'seq')
      return [{ ...structuredClone(before), values: this.#other(before) }];
    if (draw < 0.12) return [this.#reading(now - Math.floor(this.#random() * LATENESS_MS * 0.9))];
    if (draw < 0.15) return [this.#reading(now - LATENESS_MS - Math.floor(this.#random() * 20_000))];
    if (draw < 0.2) return [this.#reading(now), this.#reading(now)];
    return [this.#reading(Math.max(now, this.#lastAt + 1))];
  }

  #reading(at: number): Reading {
    this.#move();
    this.#number++;
    const reading: Reading = { kind: this.kind, id: this.id, at, values: this.#values() };
    if (this.#naming === 'seq') reading.seq = this.#number;
    if (this.#naming === 'key') reading.key = `${this.id}-${this.#number}`;
    if (this.#random() < 0.05) reading.attributes = { room: Math.floor(this.#random() * 3) };
    if (this.kind === 'pod') reading.unit = 'C';
    if (at > this.#lastAt) this.#lastAt = at;
    if (!Device.isBad(reading)) {
      this.#said.push(reading);
      if (this.#said.length > 30) this.#said.shift();
    }
    return reading;
  }

  #move(): void {
    if (this.#random() < 0.08) this.#target = this.#random() < 0.4 ? 95 : 40;
    this.#temperature += (this.#target - this.#temperature) * 0.5 + gaussian(this.#random);
    if (this.#random() < 0.03) this.#temperature += 30;
    this.#load = Math.max(0, Math.min(700, this.#load + gaussian(this.#random) * 40));
    if (this.#random() < 0.05) this.#load = this.#random() < 0.5 ? 20 : 200;
  }

  #values(): Record<string, number> {
    const round = (x: number): number => Math.round(x * 1000) / 1000 + 0;
    const values: Record<string, number> = {};
    const draw = this.#random();
    // in an order of its own, as devices do
    if (draw < 0.8) values.temperature = round(Math.max(-50, Math.min(200, this.#temperature)));
    if (draw > 0.5 || draw < 0.3) values.load = round(this.#load);
    if (draw < 0.1) values.mark = round(this.#random() * 800);
    const { poison, killer, unstorable } = this.#danger;
    if (this.kind !== 'pod') {
      const bad = this.#random();
      if (bad < poison) values.mark = POISON;
      else if (bad < poison + killer) {
        values.mark = KILLER;
        // each kills a process many times over before it is found out
        this.#danger.killer = 0;
      } else if (bad < poison + killer + unstorable) values.load = UNSTORABLE;
    }
    return values;
  }

  #other({ values }: Reading): Record<string, number> {
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value + 1]));
  }
}
