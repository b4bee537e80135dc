import { deserialize, serialize } from 'node:v8';
import { decodeBatch, encodeBatch } from '../../actors/log/batch-encoding.ts';
import { gaussian, seededRandom } from '../../actors/protocol/clock.ts';
import type { Reading } from '../../actors/protocol/reading.ts';
import { type Figure, median, type Scenario } from '../scenario.ts';

const BATCH = 100;
const BATCHES = 2_000;
const ROUNDS = 5;
const T0 = 1_750_000_000_000;

interface Batch {
  receivedAt: number;
  readings: Reading[];
}

/** The content of log messages: the encoding of the log beside JSON and the serialisation of the platform. */
const scenario: Scenario = {
  name: 'log-encoding',
  title: `${(BATCHES * BATCH).toLocaleString('en-US')} readings of machines and motes as log messages of ${BATCH}`,
  async run() {
    const figures: Figure[] = [];
    for (const [what, decimals] of [
      ['as sensors print them', 2],
      ['all digits of a double', null],
    ] as const) {
      const batches = generate(decimals);
      for (const [name, encode, decode] of [
        [
          'JSON',
          (batch: Batch) => Buffer.from(JSON.stringify(batch)),
          (bytes: Uint8Array) => JSON.parse(bytes.toString()),
        ],
        ['v8.serialize', (batch: Batch) => serialize(batch), (bytes: Uint8Array) => deserialize(bytes)],
        ['log', encodeBatch, decodeBatch],
      ] as const) {
        const rates = { encode: [] as number[], decode: [] as number[] };
        let bytes = 0;
        for (let round = 0; round < ROUNDS; round++) {
          let encoded: Uint8Array[] = [];
          const wrote = cpuSeconds(() => {
            encoded = batches.map(encode);
          });
          let readings = 0;
          const read = cpuSeconds(() => {
            for (const message of encoded) readings += decode(message).readings.length;
          });
          if (readings !== BATCHES * BATCH) throw new Error(`${name} gave back ${readings} readings.`);
          bytes = encoded.reduce((sum, message) => sum + message.length, 0);
          rates.encode.push(readings / wrote);
          rates.decode.push(readings / read);
        }
        figures.push(
          { what: `${name}, values ${what}: size`, value: bytes / (BATCHES * BATCH), unit: 'bytes/reading' },
          { what: `${name}, values ${what}: encoding`, value: median(rates.encode), unit: 'readings/s of CPU' },
          { what: `${name}, values ${what}: decoding`, value: median(rates.decode), unit: 'readings/s of CPU' },
        );
      }
    }
    return figures;
  },
};
export default scenario;

/** Time of the processor, that of collecting garbage included: what else runs on the machine does not matter. */
function cpuSeconds(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** Half machines with four metrics, half motes with four and a running number; 100 of each, in turn. */
function generate(decimals: number | null): Batch[] {
  const random = seededRandom(7);
  const value = (mean: number, spread: number) => {
    const drawn = mean + spread * gaussian(random);
    return decimals === null ? drawn : Number(drawn.toFixed(decimals));
  };
  return Array.from({ length: BATCHES }, (_, b) => ({
    receivedAt: T0 + b * 250,
    readings: Array.from({ length: BATCH }, (_, i): Reading => {
      const at = T0 + b * 250 - Math.floor(random() * 900);
      const n = (b * BATCH + i) % 100;
      return i % 2 === 0
        ? {
            kind: 'machine',
            id: `MACHINE_${String(n).padStart(3, '0')}`,
            at,
            values: {
              temperature: value(65, 3),
              vibration: value(1.2, 0.1),
              pressure: value(45, 2),
              power: value(250, 9),
            },
          }
        : {
            kind: 'mote',
            id: String(n),
            at,
            seq: b * BATCH + i,
            values: {
              temperature: value(21, 2),
              humidity: value(40, 5),
              light: value(120, 30),
              voltage: value(2.6, 0.02),
            },
          };
    }),
  }));
}
