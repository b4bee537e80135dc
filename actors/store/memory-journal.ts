import type { Entry } from '../protocol/entry.ts';
import type { Reading } from '../protocol/reading.ts';
import type { JournalReading } from './port.ts';

/** The journal of one twin in memory: entries in order of revision. */
/** The reading of a row; its id is the twin's, which comes with `withId`. */
export function readingOf(row: JournalReading): Reading {
  const reading: Reading = { kind: row.kind, id: '', at: row.at, values: row.values };
  if (row.key !== null) reading.key = row.key;
  if (row.seq !== null) reading.seq = row.seq;
  if (row.sensor !== null) reading.sensor = row.sensor;
  if (row.attributes !== null) reading.attributes = row.attributes;
  if (row.unit !== null) reading.unit = row.unit;
  return reading;
}

export function withId(entry: Entry, twinId: string): Entry {
  if (entry.type === 'reading') entry.reading.id = twinId.slice(entry.reading.kind.length + 1);
  return entry;
}

/** Where the entries above a revision begin. */
export function above(journal: readonly Entry[], revision: number): number {
  let low = 0;
  let high = journal.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (journal[middle].revision > revision) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Nearly always at the end: a cut brings readings and other entries apart. */
export function insert(journal: Entry[], entry: Entry): void {
  const at = above(journal, entry.revision);
  if (at === journal.length) journal.push(entry);
  else journal.splice(at, 0, entry);
}
