import { TwinmeshError } from '../actors/protocol/errors.ts';

/**
 * MLflow's tracking server, by its REST API (2.0): one run a training, with parameters, scores and artifacts.
 *
 *  1  A run is found again by the tag that names its job: writing it twice makes one run.
 *  2  No answer is waited for longer than ANSWER_MS, and none is read beyond MAX_ANSWER_BYTES.
 */
export interface MlflowRun {
  /** Tags the run; the same job is the same run. */
  job: string;
  experiment: string;
  name: string;
  startedAt: number;
  finishedAt: number;
  failed: boolean;
  params: Record<string, string>;
  metrics: Record<string, number>;
  tags: Record<string, string>;
  artifacts: { path: string; bytes: Uint8Array }[];
}

const ANSWER_MS = 15_000;
const MAX_ANSWER_BYTES = 4_000_000;
const TAG = 'twinmesh.job';

export class Mlflow {
  readonly #root: string;
  readonly #headers: Record<string, string>;

  /** `url` may hold user and password. */
  constructor(url: string) {
    const parsed = new URL(url);
    this.#headers = {};
    if (parsed.username !== '') {
      const login = `${decodeURIComponent(parsed.username)}:${decodeURIComponent(parsed.password)}`;
      this.#headers.authorization = `Basic ${Buffer.from(login).toString('base64')}`;
    }
    parsed.username = parsed.password = parsed.search = parsed.hash = '';
    this.#root = parsed.toString().replace(/\/+$/, '');
  }

  /** Id of the run. Throws unavailable. */
  async write(run: MlflowRun): Promise<string> {
    const experiment = await this.#experiment(run.experiment);
    const runId = (await this.#found(experiment, run.job)) ?? (await this.#created(experiment, run));
    const timestamp = run.finishedAt;
    await this.#post('runs/log-batch', {
      run_id: runId,
      params: Object.entries(run.params).map(([key, value]) => ({ key: nameOf(key), value: value.slice(0, 6_000) })),
      metrics: Object.entries(run.metrics)
        .filter(([, value]) => Number.isFinite(value))
        .map(([key, value]) => ({ key: nameOf(key), value, timestamp, step: 0 })),
      tags: Object.entries(run.tags).map(([key, value]) => ({ key: nameOf(key), value: value.slice(0, 5_000) })),
    });
    for (const { path, bytes } of run.artifacts) await this.#upload(experiment, runId, path, bytes);
    const status = run.failed ? 'FAILED' : 'FINISHED';
    await this.#post('runs/update', { run_id: runId, status, end_time: run.finishedAt });
    return runId;
  }

  async #experiment(name: string): Promise<string> {
    const found = await this.#ask(
      'GET',
      `experiments/get-by-name?experiment_name=${encodeURIComponent(name)}`,
      undefined,
      true,
    );
    const id = idIn(found?.experiment, 'experiment_id');
    if (id !== null) return id;
    const made = await this.#post('experiments/create', { name });
    return String(made.experiment_id);
  }

  async #found(experiment: string, job: string): Promise<string | null> {
    const answer = await this.#post('runs/search', {
      experiment_ids: [experiment],
      filter: `tags.\`${TAG}\` = '${job.replaceAll("'", '')}'`,
      max_results: 1,
    });
    const [run] = Array.isArray(answer.runs) ? (answer.runs as { info?: unknown }[]) : [];
    return idIn(run?.info, 'run_id');
  }

  async #created(experiment: string, run: MlflowRun): Promise<string> {
    const answer = await this.#post('runs/create', {
      experiment_id: experiment,
      run_name: run.name,
      start_time: run.startedAt,
      tags: [{ key: TAG, value: run.job }],
    });
    const id = idIn((answer.run as { info?: unknown } | undefined)?.info, 'run_id');
    if (id === null) throw new TwinmeshError('unavailable', 'MLflow made a run and did not say which.');
    return id;
  }

  /** Through the server, which knows where artifacts lie. */
  async #upload(experiment: string, runId: string, path: string, bytes: Uint8Array): Promise<void> {
    const url = `${this.#root}/api/2.0/mlflow-artifacts/artifacts/${experiment}/${runId}/artifacts/${path}`;
    const headers = { ...this.#headers, 'content-type': 'application/octet-stream' };
    await this.#fetch(url, { method: 'PUT', headers, body: new Uint8Array(bytes) }, `artifact ${path}`, false);
  }

  async #post(path: string, body: unknown): Promise<Record<string, unknown>> {
    return (await this.#ask('POST', path, body, false)) ?? {};
  }

  async #ask(method: string, path: string, body: unknown, mayBeMissing: boolean) {
    const headers = { ...this.#headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
    const text = await this.#fetch(
      `${this.#root}/api/2.0/mlflow/${path}`,
      { method, headers, body: body === undefined ? undefined : JSON.stringify(body) },
      path.split('?')[0],
      mayBeMissing,
    );
    if (text === null || text === '') return null;
    try {
      return JSON.parse(text) as Record<string, unknown>;
    } catch {
      throw new TwinmeshError('unavailable', `MLflow answered ${path.split('?')[0]} with what is no JSON.`);
    }
  }

  async #fetch(url: string, init: RequestInit, what: string, mayBeMissing: boolean): Promise<string | null> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(ANSWER_MS) });
      text = await limited(response);
    } catch (cause) {
      // the URL may hold a password
      throw new TwinmeshError('unavailable', `MLflow does not answer ${what}.`, undefined, { cause });
    }
    if (response.ok) return text;
    if (mayBeMissing && response.status === 404) return null;
    throw new TwinmeshError('unavailable', `MLflow answered ${what} with ${response.status}: ${text.slice(0, 200)}`);
  }
}

async function limited(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > MAX_ANSWER_BYTES) throw new RangeError('The answer is too long.');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** What MLflow takes in names of metrics, parameters and tags. */
function nameOf(name: string): string {
  return name.replace(/[^A-Za-z0-9_.\- /]/g, '_').slice(0, 250);
}

function idIn(value: unknown, member: string): string | null {
  const id = (value as Record<string, unknown> | null | undefined)?.[member];
  return typeof id === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(id) ? id : null;
}
