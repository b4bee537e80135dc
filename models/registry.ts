import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import type { Prediction, PredictRequest } from '../actors/protocol/prediction.ts';
import type { ModelCard } from './card.ts';
import { findModels, type ModelFolder } from './folder.ts';
import { Model } from './model.ts';
import { type Answered, type PredictOptions, predictWith } from './predictor.ts';
import { differenceOf } from './shadow.ts';

/**
 * The models of this process: which versions there are in the folders, which of them are loaded, and who answers.
 *
 * Owns loading, swapping and giving up. Does not own which version shall be live: that is told (`apply`).
 *
 *  1  A swap drops nothing: a question is answered by the version that was live when its turn came, to its end.
 *  2  A version that does not load changes nothing: the one that answers goes on; where none does, the one that the wanted
 *     version replaced stands in. The reason is kept until the folder changes;
 *     it is not believed by who tries the version anew, nor where its files could not be read, which no file shows.
 *  3  The shadow runs after the answer has gone, on what was asked, and what it says goes nowhere but into its difference. One that
 *     fails, or has no answer to MUTE_ROWS rows in a row that the live version answers, is refused until it answers.
 */
export interface Wanted {
  live: string | null;
  /** The version that the live one replaced. */
  replaced: string | null;
  shadow: string | null;
  /** Hashes as registered, by version. */
  sha256: ReadonlyMap<string, string>;
}

export interface RefusedModel {
  name: string;
  version: string;
  reason: string;
}

export interface LoadedModels {
  name: string;
  live: string | null;
  shadow: string | null;
  bytes: number;
}

export interface RegistryWatch {
  answered?(model: Model, answered: Answered, durationMs: number): void;
  compared?(model: Model, shadow: Model, differences: number[]): void;
  swapped?(name: string, from: string | null, to: string | null): void;
  refused?(refused: RefusedModel): void;
}

interface Slot {
  live: Model | null;
  shadow: Model | null;
  comparing: number;
  /** Rows in a row that the live version answered and the shadow did not. */
  muteRows: number;
}

/** A refusal that is remembered. */
interface Refused extends RefusedModel {
  /** What the version was to be, and its files: until they change it is not read again. */
  print: string;
  /** Its files alone. */
  files: string;
}

/** Requests that may wait for a shadow; further ones it does not see. */
const MAX_COMPARING = 4;
const MUTE_ROWS = 20;
const FILES = ['card.json', 'model.onnx', 'parity.json'];
/** Print that no version has: it is tried again whenever it is wanted. */
const ABSENT = '';
const AS_A_SHADOW = 'as a shadow';

export class ModelRegistry {
  readonly #roots: readonly string[];
  readonly #watch: RegistryWatch;
  readonly #misfit: (card: ModelCard) => string | null;
  readonly #slots = new Map<string, Slot>();
  readonly #refused = new Map<string, Refused>();
  /** Loaded to be looked at, and not in use. */
  readonly #spare = new Map<string, Model>();
  #folders = new Map<string, ModelFolder[]>();
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** `misfit` says why a version that loads cannot be asked here all the same. */
  constructor(
    roots: readonly string[],
    watch: RegistryWatch = {},
    misfit: (card: ModelCard) => string | null = () => null,
  ) {
    this.#roots = roots;
    this.#watch = watch;
    this.#misfit = misfit;
  }

  /** Looks into the folders anew. What was said against files that are others now is forgotten. */
  async scan(): Promise<readonly ModelFolder[]> {
    this.#folders = await findModels(this.#roots);
    for (const [id, refused] of this.#refused)
      if (refused.files !== (await filesOf(this.#folder(refused.name, refused.version)))) this.#refused.delete(id);
    return [...this.#folders.values()].flat();
  }

  /**
   * Why this version cannot be used here, or null: it is loaded beside what answers, which is not disturbed, asked its sample
   * rows as any that is loaded, and given up again.
   */
  async probe(name: string, version: string, sha256: string): Promise<string | null> {
    const slot = this.#slots.get(name);
    for (const model of [slot?.live, slot?.shadow])
      if (model?.card.version === version && model.card.sha256 === sha256) return null;
    await this.scan();
    const folder = this.#folder(name, version);
    if (folder === undefined) return NO_FOLDER;
    const model = await this.#load(folder, sha256, true);
    await model?.retire();
    return model === null ? (this.#refused.get(`${name}@${version}`)?.reason ?? 'It cannot be loaded.') : null;
  }

  /** The card of a version that loads; null, and a reason among the refused, where it does not. */
  async examine(folder: ModelFolder): Promise<ModelCard | null> {
    const id = `${folder.name}@${folder.version}`;
    const model = this.#spare.get(id) ?? (await this.#load(folder, undefined));
    if (model !== null) this.#spare.set(id, model);
    return model?.card ?? null;
  }

  /** Brings what is loaded to what is wanted, by name; a name that is not in it is left without. One at a time. */
  apply(wanted: ReadonlyMap<string, Wanted>): Promise<void> {
    const turn = this.#turn.then(() => this.#apply(wanted));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Throws inference_down (with `model`) where none of the name is loaded, bad_request, bad_model. */
  async predict(request: PredictRequest, options?: PredictOptions): Promise<Answered> {
    const slot = this.#slots.get(request.model);
    const model = slot?.live;
    if (!slot || !model) throw this.#absent(request.model);
    const startedAt = performance.now();
    const answered = await predictWith(model, request, options);
    this.#watch.answered?.(model, answered, performance.now() - startedAt);
    if (slot.shadow !== null) void this.#compare(slot, model, slot.shadow, request, answered.predictions);
    return answered;
  }

  /** The card of the version that answers. */
  card(name: string): ModelCard | null {
    return this.#slots.get(name)?.live?.card ?? null;
  }

  loaded(): LoadedModels[] {
    return [...this.#slots].map(([name, { live, shadow }]) => ({
      name,
      live: live?.card.version ?? null,
      shadow: shadow?.card.version ?? null,
      bytes: (live?.bytes ?? 0) + (shadow?.bytes ?? 0),
    }));
  }

  refused(): RefusedModel[] {
    return [...this.#refused.values()].map(({ name, version, reason }) => ({ name, version, reason }));
  }

  /** Versions that were only looked at are closed. */
  async forgetSpare(): Promise<void> {
    for (const model of this.#spare.values()) await model.retire();
    this.#spare.clear();
  }

  /** Gives up all of them; nobody is told of it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.apply(new Map());
    await this.forgetSpare();
  }

  async #apply(wanted: ReadonlyMap<string, Wanted>): Promise<void> {
    for (const name of new Set([...this.#slots.keys(), ...wanted.keys()])) {
      const want = wanted.get(name) ?? { live: null, replaced: null, shadow: null, sha256: new Map() };
      const slot = this.#slots.get(name) ?? { live: null, shadow: null, comparing: 0, muteRows: 0 };
      this.#slots.set(name, slot);
      await this.#setLive(name, slot, want);
      await this.#setShadow(name, slot, want);
      if (slot.live === null && slot.shadow === null) this.#slots.delete(name);
    }
  }

  async #setLive(name: string, slot: Slot, want: Wanted): Promise<void> {
    const before = slot.live;
    if ((before?.card.version ?? null) === want.live) return;
    let next: Model | null = null;
    if (want.live !== null) {
      next = await this.#version(name, want.live, want, slot);
      if (next === null && before !== null) return;
      if (next === null && want.replaced !== null) next = await this.#version(name, want.replaced, want, slot);
    }
    if (next === before) return;
    if (next !== null && next === slot.shadow) slot.shadow = null;
    slot.live = next;
    if (!this.#isClosed) this.#watch.swapped?.(name, before?.card.version ?? null, next?.card.version ?? null);
    await before?.retire();
  }

  async #setShadow(name: string, slot: Slot, want: Wanted): Promise<void> {
    const before = slot.shadow;
    if ((before?.card.version ?? null) === want.shadow) return;
    const next = want.shadow === null ? null : await this.#version(name, want.shadow, want, slot);
    if (next === null && want.shadow !== null) return;
    slot.shadow = next;
    slot.muteRows = 0;
    await before?.retire();
  }

  /** Loaded already, or loaded now; null where it is refused. */
  async #version(name: string, version: string, want: Wanted, slot: Slot): Promise<Model | null> {
    const id = `${name}@${version}`;
    if (slot.shadow?.id === id) return slot.shadow;
    const sha256 = want.sha256.get(version);
    const spare = this.#spare.get(id);
    if (spare && (sha256 === undefined || spare.card.sha256 === sha256)) {
      this.#spare.delete(id);
      return spare;
    }
    const folder = this.#folder(name, version);
    if (folder === undefined) {
      this.#refuse({ name, version, reason: NO_FOLDER, print: ABSENT, files: ABSENT });
      return null;
    }
    return this.#load(folder, sha256);
  }

  async #load(folder: ModelFolder, sha256: string | undefined, isAnew = false): Promise<Model | null> {
    const { name, version, path } = folder;
    const id = `${name}@${version}`;
    const files = await filesOf(folder);
    const print = `${sha256 ?? ''} ${files}`;
    // What was refused is not read again until somebody has touched it.
    if (!isAnew && this.#refused.get(id)?.print === print) return null;
    try {
      const model = await Model.load(path, { name, version, sha256 });
      const misfit = this.#misfit(model.card);
      if (misfit !== null) {
        await model.retire();
        throw new TwinmeshError('bad_model', misfit);
      }
      this.#refused.delete(id);
      return model;
    } catch (error) {
      this.#refuse({ name, version, reason: messageOf(error), print: isOfReading(error) ? ABSENT : print, files });
      return null;
    }
  }

  #folder(name: string, version: string): ModelFolder | undefined {
    return this.#folders.get(name)?.find((known) => known.version === version);
  }

  #refuse(refused: Refused): void {
    const { name, version, reason } = refused;
    const id = `${name}@${version}`;
    const isNew = this.#refused.get(id)?.reason !== reason;
    this.#refused.set(id, refused);
    if (isNew) this.#watch.refused?.({ name, version, reason });
  }

  async #compare(
    slot: Slot,
    live: Model,
    shadow: Model,
    request: PredictRequest,
    said: readonly (Prediction | null)[],
  ): Promise<void> {
    if (this.#watch.compared === undefined || slot.comparing >= MAX_COMPARING) return;
    slot.comparing++;
    try {
      const { predictions, refused } = await predictWith(shadow, request, { explain: false });
      const differences = differencesOf(said, predictions);
      this.#watch.compared(live, shadow, differences);
      if (differences.length > 0) {
        slot.muteRows = 0;
        this.#answersAgain(shadow);
      } else {
        slot.muteRows += said.filter((one) => one !== null).length;
        if (slot.muteRows >= MUTE_ROWS)
          await this.#refuseShadow(
            slot,
            shadow,
            `it has no answer where ${live.id} has: ${[...refused.keys()].join(', ')}.`,
          );
      }
    } catch (error) {
      await this.#refuseShadow(slot, shadow, messageOf(error));
    } finally {
      slot.comparing--;
    }
  }

  async #refuseShadow(slot: Slot, shadow: Model, why: string): Promise<void> {
    const { name, version } = shadow.card;
    const files = await filesOf(this.#folder(name, version));
    if (slot.shadow !== shadow) return;
    this.#refuse({ name, version, reason: `As a shadow: ${why}`, print: AS_A_SHADOW, files });
  }

  #answersAgain(shadow: Model): void {
    if (this.#refused.get(shadow.id)?.print === AS_A_SHADOW) this.#refused.delete(shadow.id);
  }

  #absent(name: string): TwinmeshError {
    const reasons = this.refused().filter((refused) => refused.name === name);
    const why = reasons.map(({ version, reason }) => ` ${name}@${version} was refused: ${reason}`).join('');
    return new TwinmeshError('inference_down', `No version of the model ${name} is loaded.${why}`, { model: name });
  }
}

function differencesOf(live: readonly (Prediction | null)[], shadow: readonly (Prediction | null)[]): number[] {
  return live.flatMap((said, i) => {
    const other = shadow[i];
    return said === null || other === null ? [] : [differenceOf(said, other)];
  });
}

/** Rights, descriptors, a disk: what is mended without touching the files. That one is missing shows. */
function isOfReading(error: unknown): boolean {
  const { code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) && code !== 'ENOENT';
}

const NO_FOLDER = 'There is no folder of this version on this node.';

/** What changes with the files of a version: their sizes and times. */
async function filesOf(folder: ModelFolder | undefined): Promise<string> {
  if (folder === undefined) return ABSENT;
  const prints = await Promise.all(
    FILES.map((file) =>
      stat(join(folder.path, file)).then(
        ({ size, mtimeMs }) => `${size} ${mtimeMs}`,
        () => '-',
      ),
    ),
  );
  return prints.join(' ');
}
