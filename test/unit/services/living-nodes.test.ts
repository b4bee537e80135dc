import { describe, expect, it } from 'vitest';
import type { Sql } from '../../../actors/store/sql.ts';
import { beats } from '../../../services/living-nodes.ts';

/** A table of nodes that answers each question with the next of these. */
function tableOf(...answers: (string | undefined)[]): Sql {
  return {
    async query(_text: string, [node]: unknown[]) {
      expect(node).toBe('host-1');
      const beat = answers.shift();
      return beat === undefined ? [] : [{ beat }];
    },
  } as unknown as Sql;
}

describe('a node of this name', () => {
  it.each([
    ['has never been there', [undefined], false],
    ['was there and beats no more', ['7', '7'], false],
    ['left in order meanwhile', ['7', undefined], false],
    ['lives', ['7', '8'], true],
  ])('%s', async (_, answers, lives) => {
    expect(await beats(tableOf(...answers), 'host-1', 20)).toBe(lives);
  });
});
