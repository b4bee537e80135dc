/**
 * Which reading an owner was about to fold when it was lost, as a cursor under the fence: `~suspect` of a shard holds
 * position, index within the message, and how often in a row that reading has been named. Cursors only move forward, and
 * so do these numbers.
 */
export const SUSPECT = '~suspect';

/** So many owners in a row were lost with the same reading named: it kills. Fewer may have been lost for another reason. */
export const SUSPICIONS = 3;

const STEP = 10;
/** A batch holds at most so many (actors/ingress): more would leave fewer positions that a double holds exactly; these are enough for 9 * 10^11. */
const READINGS_A_MESSAGE = 1_000;

/** The cursor's value for a reading that has been named `times` times. */
export function suspicionOf(position: number, index: number, times: number): number {
  return (position * READINGS_A_MESSAGE + index) * STEP + times;
}

/** How often the cursor says that this reading has been named. */
export function timesNamed(cursor: number, position: number, index: number): number {
  const times = cursor - suspicionOf(position, index, 0);
  return times > 0 && times < STEP ? times : 0;
}

/** Whether the cursor names a reading of a message behind `position`: one that its owner did not get past. */
export function isPending(cursor: number, position: number): boolean {
  return cursor >= suspicionOf(position + 1, 0, 0);
}
