import { Pglite } from '../../actors/store/pglite.ts';
import { pipeline } from '../pipeline.ts';
import type { Scenario } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const scenario: Scenario = {
  name: 'pipeline-embedded',
  title: 'the durable pipeline in one process, checkpoints on disk',
  async run(say) {
    const folder = temporaryFolder('pipeline');
    const sql = await Pglite.open({ dataDir: folder.path });
    try {
      return await pipeline({ sql, twins: 1_000, readings: 500_000, perPayload: 500, atLeast: 50_000, say });
    } finally {
      await sql.close();
      folder.remove();
    }
  },
};
export default scenario;
