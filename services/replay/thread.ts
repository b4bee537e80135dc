import { parentPort, workerData } from 'node:worker_threads';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import type { PredictAnswer, Predictor } from '../../actors/protocol/prediction.ts';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { Pg } from '../../actors/store/pg.ts';
import { insertDifferences } from '../../actors/store/queries/rescore-list.ts';
import type { Sql } from '../../actors/store/sql.ts';
import { modelPredictor } from './other-model.ts';
import { type RescoreKinds, rescore } from './rescoring.ts';
import type { Ask, FromThread, Task, ThreadSettings, ToThread } from './thread-message.ts';
import { fromThrown, toThrown } from './thrown.ts';
import { journalOf, viewAt } from './time-travel.ts';
import { whatIf } from './what-if.ts';

/**
 * A thread that folds what is asked aside: one task at a time, so that its end costs only that task.
 *
 *  1 It keeps nothing between two tasks but its connections and the kinds.
 *  2 Whatever a task throws is told with its code; the thread goes on.
 */
const port = parentPort;
if (!port) throw new Error('The replay thread runs as a worker thread.');
const settings = workerData as ThreadSettings;

const waiting = new Map<number, { resolve(answer: unknown): void; reject(error: unknown): void }>();
let lastId = 0;

function say(message: FromThread): void {
  port!.postMessage(message);
}

function ask<T>(what: Ask): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const id = ++lastId;
    waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject });
    say({ type: 'ask', id, ask: what });
  });
}

/** Statements that the owner runs: an embedded database is opened by one thread. */
const owners: Sql = {
  query: <Row>(text: string, params: readonly unknown[] = [], options: { name?: string } = {}) =>
    ask<Row[]>({ what: 'query', text, params, ...(options.name === undefined ? {} : { name: options.name }) }),
  exec: () => Promise.reject(new TwinmeshError('internal', 'Replay changes no tables.')),
  close: async () => undefined,
};

const predictor: Predictor = { predict: (request) => ask<PredictAnswer>({ what: 'predict', request }) };

async function run(task: Task, sql: Sql, kinds: RescoreKinds): Promise<unknown> {
  switch (task.type) {
    case 'at':
      return viewAt(journalOf(sql), kinds, task.twinId, task.at);
    case 'what-if':
      return whatIf(journalOf(sql), kinds, predictor, task.twinId, task.request, task.nowMs);
    case 'rescore': {
      const other = await modelPredictor(task.modelPath, task.request);
      try {
        let n = 0;
        return await rescore(sql, kinds, other, task.request, {
          progress: (progress) => say({ type: 'progress', progress }),
          async differences(twinId, found) {
            await insertDifferences(sql, task.id, n, twinId, found);
            n += found.length;
          },
        });
      } finally {
        await other.close();
      }
    }
  }
}

async function start(): Promise<void> {
  const kinds = await loadKinds(settings.kindFolders);
  const sql =
    settings.databaseUrl === null
      ? owners
      : await Pg.open({ url: settings.databaseUrl, maxConnections: 3, applicationName: settings.applicationName });
  port!.on('message', (message: ToThread) => {
    if (message.type === 'run') {
      run(message.task, sql, kinds).then(
        (result) => say({ type: 'done', result }),
        (error) => say({ type: 'failed', error: toThrown(error) }),
      );
      return;
    }
    const asked = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.type === 'answer') asked?.resolve(message.answer);
    else asked?.reject(fromThrown(message.error));
  });
  say({ type: 'ready' });
}

start().catch((error) => say({ type: 'failed', error: toThrown(error) }));
