import { describe, expect, it } from 'vitest';
import type { Sql } from '../../../actors/store/sql.ts';
import { mustBeAlone } from '../../../services/load/direct-delivery.ts';

/** A database whose nodes have these beats, one answer after the other. */
function nodes(...answers: Record<string, number>[]): Sql {
  const query = () =>
    Promise.resolve(Object.entries(answers.shift() ?? {}).map(([node, beat]) => ({ node, beat: String(beat) })));
  return { query } as unknown as Sql;
}

describe('loading into a database directly', () => {
  it('is for one that nobody serves', async () => {
    await mustBeAlone(nodes({}), 10);
    await mustBeAlone(nodes({ dead: 7 }, { dead: 7 }), 10);
  });

  it('is refused while another node beats, or joins', async () => {
    const message = 'The database is served by alive; load there, where its DATA_DIR is.';
    await expect(mustBeAlone(nodes({ dead: 7, alive: 1 }, { dead: 7, alive: 2 }), 10)).rejects.toThrow(message);
    await expect(mustBeAlone(nodes({ dead: 7 }, { dead: 7, alive: 1 }), 10)).rejects.toThrow(message);
  });
});
