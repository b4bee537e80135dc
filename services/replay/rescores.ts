import { randomUUID } from 'node:crypto';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';
import { finishRescore, insertRescore, progressOfRescore } from '../../actors/store/queries/rescore-list.ts';
import { findModels } from '../../models/folder.ts';
import type { Parts } from '../parts.ts';
import type { RescoreRequest, RescoreSummary } from './rescoring.ts';
import type { ReplayThreads } from './threads.ts';

/**
 * The rescorings of this node: one at a time, because a second thread has to be left for what people wait for.
 *
 * Invariant: what is stored as running either runs, or has not told anything for two minutes (rescore-list.ts).
 */
const LONGEST_MS = 24 * 3_600_000;
const BUILT_IN = fileURLToPath(new URL('../../models/', import.meta.url));

export class Rescores {
  readonly #parts: Parts;
  readonly #threads: ReplayThreads;
  #running: { id: string; ending: AbortController; done: Promise<void> } | null = null;

  constructor(parts: Parts, threads: ReplayThreads) {
    this.#parts = parts;
    this.#threads = threads;
  }

  /** Answers its id; it runs on. Throws conflict while another one runs here, not_found where there is no such version. */
  async start(request: RescoreRequest, by: string | null): Promise<string> {
    if (this.#running !== null)
      throw new TwinmeshError('conflict', `Rescoring ${this.#running.id} runs on this node; one at a time.`);
    const ending = new AbortController();
    const id = randomUUID();
    // taken before the first await: two that come together must not both begin
    const running = { id, ending, done: Promise.resolve() };
    this.#running = running;
    try {
      const modelPath = await this.#folder(request);
      const { sql, clock, settings } = this.#parts;
      const { kind, twins } = request;
      await insertRescore(sql, { ...request, id, kind, twins, by, node: settings.nodeId }, clock.now());
      running.done = this.#run(id, request, modelPath, ending.signal);
    } catch (error) {
      this.#running = null;
      throw error;
    }
    return id;
  }

  /** Ends the one with this id, where it runs here. */
  async cancel(id: string): Promise<boolean> {
    const running = this.#running;
    if (running?.id !== id) return false;
    running.ending.abort();
    await running.done;
    return true;
  }

  async close(): Promise<void> {
    if (this.#running !== null) await this.cancel(this.#running.id);
  }

  async #run(id: string, request: RescoreRequest, modelPath: string, signal: AbortSignal): Promise<void> {
    const { sql, clock, logger } = this.#parts;
    let told = Promise.resolve();
    try {
      const summary = await this.#threads.run<RescoreSummary>(
        { type: 'rescore', id, request, modelPath },
        {
          deadlineMs: LONGEST_MS,
          signal,
          onProgress: (progress) => {
            told = told.then(() => progressOfRescore(sql, id, progress, clock.now())).catch(() => undefined);
          },
        },
      );
      await told;
      await progressOfRescore(sql, id, { ...summary, tally: undefined }, clock.now());
      await finishRescore(sql, id, { state: 'done', summary }, clock.now());
    } catch (error) {
      const state = signal.aborted ? 'cancelled' : 'failed';
      const end = { state, error: messageOf(error) } as const;
      await finishRescore(sql, id, end, clock.now()).catch((err) =>
        logger.warn({ err, rescore: id }, 'the end of a rescoring could not be stored'),
      );
    } finally {
      this.#running = null;
    }
  }

  async #folder({ model, version }: RescoreRequest): Promise<string> {
    const { settings } = this.#parts;
    const roots = [BUILT_IN, resolve(settings.modelsDir ?? join(settings.dataDir, 'models'))];
    const versions = (await findModels(roots)).get(model) ?? [];
    const found = versions.find((folder) => folder.version === version);
    if (found !== undefined) return found.path;
    const there = versions.length === 0 ? 'none' : versions.map((folder) => folder.version).join(', ');
    throw new TwinmeshError('not_found', `There is no ${model}@${version} on this node; versions there: ${there}.`);
  }
}
