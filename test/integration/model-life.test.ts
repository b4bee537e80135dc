import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { gaussian, seededRandom, systemClock } from '../../actors/protocol/clock.ts';
import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { migrate } from '../../actors/store/postgres/migrate.ts';
import { type Sql, SqlError } from '../../actors/store/sql.ts';
import { Mlflow, type MlflowRun } from '../../mixins/mlflow.ts';
import { ObjectFolder } from '../../mixins/object-folder.ts';
import { type CardScore, type ModelCard, parseCard } from '../../models/card.ts';
import { runProgram } from '../../models/training/python.ts';
import type { TrainOptions } from '../../models/training/training.ts';
import { DriftBook } from '../../services/drift/book.ts';
import { driftReport, judgeDrift } from '../../services/drift/report.ts';
import { createLogger } from '../../services/logger.ts';
import { begin, listModels, promote, registerModel, registerTrained, TRAINED } from '../../services/models/register.ts';
import { fetchVersion } from '../../services/training/artifacts.ts';
import { Burial } from '../../services/training/burial.ts';
import { type MlflowSink, type Settling, settle } from '../../services/training/mlflow-outbox.ts';
import {
  beatJob,
  buryJobs,
  cancelJob,
  claimJob,
  endJob,
  enqueue,
  jobOf,
  listJobs,
} from '../../services/training/queue.ts';
import { trainCandidate } from '../../services/training/training-run.ts';
import { type WorkOptions, workOn } from '../../services/training/work.ts';
import { linear, writeModel } from '../fixtures/onnx.ts';
import { openEmptyDatabase } from '../servers/embedded.ts';
import { findMlflow } from '../servers/mlflow.ts';

/** What becomes of models: drift, jobs, candidates, MLflow. */
const NAME = 'machine-rul';
let sql: Sql;
let folder: string;
beforeAll(async () => {
  sql = await openEmptyDatabase();
  await migrate(sql, [], 4);
  folder = mkdtempSync(join(tmpdir(), 'twinmesh-life-'));
});
afterAll(async () => {
  await sql?.close();
  rmSync(folder, { recursive: true, force: true });
});

const score = (value: number): CardScore => ({ name: 'R²', value, data: 'made up', split: 'none' });

/** Writes a version that loads, into `root/NAME/version`. */
function version(root: string, text: string, r2: number): ModelCard {
  const parity = { inputs: [[1, 2]], outputs: { value: [3] } };
  const reference = { edges: [-1, 0, 1], shares: [0.16, 0.34, 0.34, 0.16] };
  const inputs = ['temperature', 'vibration'].map((name) => {
    return { name, unit: '', min: -1e6, max: 1e6, missing: 'impute', reference };
  });
  const at = writeModel(root, {
    name: NAME,
    version: text,
    onnx: linear([1, 1], 0),
    parity,
    card: { inputs, scores: [score(r2)] },
  });
  return parseCard(readFileSync(join(at, 'card.json'), 'utf8'));
}

/** A trainer that writes a model of this score. */
const trainer =
  (r2: number) =>
  async ({ out, version: text, onProgress }: TrainOptions): Promise<ModelCard> => {
    onProgress?.(0.5, 'half');
    const made = mkdtempSync(join(tmpdir(), 'twinmesh-trained-'));
    const card = version(made, text!, r2);
    mkdirSync(out, { recursive: true });
    cpSync(join(made, NAME, text!), out, { recursive: true });
    rmSync(made, { recursive: true });
    return card;
  };

describe('jobs', () => {
  it('are done by one node, once, however many ask and look at once', async () => {
    const asked = await Promise.all(
      Array.from({ length: 5 }, (_, i) => enqueue(sql, { type: 'training', name: 'one', params: {}, by: `user ${i}` })),
    );
    expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
    const claimed = await Promise.all(['a', 'b', 'c'].map((node) => claimJob(sql, 'training', node)));
    expect(claimed.filter((job) => job !== null)).toHaveLength(1);
    const job = claimed.find((each) => each !== null)!;
    const node = job.node!;
    expect(await beatJob(sql, job.id, 'another', 0.5, 'mine?')).toBe(false);
    expect(await beatJob(sql, job.id, node, 0.5, 'half')).toBe(true);
    expect(await jobOf(sql, job.id)).toMatchObject({ status: 'running', progress: 0.5, message: 'half' });
    expect(await endJob(sql, job.id, node, { status: 'done', message: 'well', result: { version: '1.0.0' } })).toBe(
      true,
    );
    expect(await endJob(sql, job.id, node, { status: 'failed', message: 'late', result: null })).toBe(false);
    expect(await jobOf(sql, job.id)).toMatchObject({ status: 'done', progress: 1, result: { version: '1.0.0' } });
    await expect(cancelJob(sql, job.id, 'me')).rejects.toMatchObject({ code: 'conflict' });
  });

  it('fail when the node that runs them dies, and can be asked for again', async () => {
    const { id } = await enqueue(sql, { type: 'training', name: 'dies', params: {}, by: 'me' });
    await claimJob(sql, 'training', 'a');
    expect(await buryJobs(sql)).toEqual([]);
    await sql.query(`update jobs set beat = now() - interval '2 minutes' where id = $1`, [id]);
    expect((await buryJobs(sql)).map((job) => job.id)).toEqual([id]);
    expect(await jobOf(sql, id)).toMatchObject({
      status: 'failed',
      message: expect.stringContaining('start it again'),
    });
    // it was only slow: what it says now changes nothing
    expect(await beatJob(sql, id, 'a', 0.9, 'still here')).toBe(false);
    expect((await enqueue(sql, { type: 'training', name: 'dies', params: {}, by: 'me' })).id).not.toBe(id);
  });

  it('are cancelled before and while they run, and listed by page', async () => {
    const { id } = await enqueue(sql, { type: 'training', name: 'unwanted', params: {}, by: 'me' });
    expect(await cancelJob(sql, id, 'me')).toMatchObject({ status: 'cancelled' });
    const first = await listJobs(sql, { limit: 2 });
    const second = await listJobs(sql, { limit: 100, cursor: first.nextCursor! });
    const ids = [...first.items, ...second.items].map((job) => job.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids[0]).toBe(id);
    expect((await listJobs(sql, { status: 'cancelled', limit: 10 })).items.map((job) => job.id)).toEqual([id]);
    await expect(jobOf(sql, 'none')).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('a training', () => {
  const roots = () => [join(folder, 'built-in'), join(folder, 'trained')];
  const run = (r2: number, signal = new AbortController().signal) =>
    trainCandidate({
      sql,
      model: NAME,
      roots: roots(),
      objects: new ObjectFolder(join(folder, 'objects')),
      signal,
      onProgress: () => {},
      trainer: trainer(r2),
    });

  it('registers a candidate, held against the live version, and promotes nothing', async () => {
    const card = version(roots()[0], '1.0.0', 0.9);
    await registerModel(sql, card, 'built in');
    await begin(sql, NAME, '1.0.0');
    const worse = await run(0.8);
    expect(worse).toMatchObject({ live: '1.0.0', card: { version: '1.1.0' }, comparison: { better: false } });
    const better = await run(0.95);
    expect(better).toMatchObject({ card: { version: '1.2.0' }, comparison: { better: true } });
    expect(better.comparison.scores[0]).toMatchObject({ candidate: 0.95, live: 0.9 });
    const statuses = (await listModels(sql, NAME)).map((model) => [model.version, model.status]);
    expect(statuses).toEqual([
      ['1.2.0', 'candidate'],
      ['1.1.0', 'candidate'],
      ['1.0.0', 'live'],
    ]);
  });

  it('reaches the other nodes through object storage, whole', async () => {
    const other = join(folder, 'other');
    await fetchVersion(new ObjectFolder(join(folder, 'objects')), other, NAME, '1.2.0');
    for (const file of ['model.onnx', 'card.json', 'parity.json'])
      expect(readFileSync(join(other, NAME, '1.2.0', file))).toEqual(
        readFileSync(join(roots()[1], NAME, '1.2.0', file)),
      );
    await expect(fetchVersion(new ObjectFolder(join(folder, 'objects')), other, NAME, '7.0.0')).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('that is broken off, or yields what does not load, leaves nothing', async () => {
    const abort = new AbortController();
    abort.abort();
    await expect(run(0.99, abort.signal)).rejects.toThrow();
    const before = (await listModels(sql, NAME)).length;
    const broken = trainCandidate({
      sql,
      model: NAME,
      roots: roots(),
      objects: null,
      signal: new AbortController().signal,
      onProgress: () => {},
      trainer: async (options) => {
        const card = await trainer(0.99)(options);
        truncateSync(join(options.out, 'model.onnx'), 40);
        return card;
      },
    });
    await expect(broken).rejects.toBeInstanceOf(TwinmeshError);
    expect((await listModels(sql, NAME)).length).toBe(before);
  });
});

describe('work on a job', () => {
  /** Fifty times as fast. */
  const fast = { ...systemClock, after: (ms: number, then: () => void) => systemClock.after(ms / 50, then) };
  const roots = () => [join(folder, 'built-in'), join(folder, 'work')];
  afterAll(() => promote(sql, NAME, '1.0.0', { by: 'me', reason: 'as it was' }));

  const liveNow = async () => (await listModels(sql, NAME)).find(({ status }) => status === 'live')?.version;
  const running = async () => (await listJobs(sql, { status: 'running', name: NAME, limit: 1 })).items[0].id;
  let best = 1;
  /** Beats whatever is live. */
  const better = (): WorkOptions['train'] => {
    best++;
    return (how) => trainCandidate({ ...how, model: NAME, roots: roots(), objects: null, trainer: trainer(best) });
  };
  const work = async (name: string, change: Partial<WorkOptions>) => {
    const { id } = await enqueue(sql, { type: 'worked', name, params: { promote: true }, by: 'me' });
    const job = (await claimJob(sql, 'worked', 'worker'))!;
    await workOn({
      sql,
      clock: fast,
      logger: createLogger({ level: 'silent', format: 'json', node: 'worker' }),
      node: 'worker',
      job,
      abort: new AbortController(),
      promotesBetter: false,
      toMlflow: false,
      train: (how) => trainCandidate({ ...how, model: NAME, roots: roots(), objects: null, trainer: trainer(0.99) }),
      tried: async () => ({ checked: true, note: null }),
      onChanged: () => {},
      ...change,
    });
    return jobOf(sql, id);
  };

  it('leaves a version that no node can load a candidate, and says why', async () => {
    const job = await work(NAME, {
      async tried() {
        throw new TwinmeshError('bad_model', 'No node can load it.');
      },
    });
    expect(job).toMatchObject({
      status: 'done',
      message: expect.stringMatching(/is a candidate; it did not go live: No node can load it\.$/),
      result: { promoted: false },
    });
    const { version: made } = job.result as { version: string };
    expect((await listModels(sql, NAME)).find((model) => model.version === made)?.status).toBe('candidate');
  });

  it('writes what has become of it once the database is back, and beats meanwhile', async () => {
    let isAway = false;
    let beats = 0;
    const asked: string[] = [];
    const away: Sql = {
      ...sql,
      async query<Row>(...statement: Parameters<Sql['query']>) {
        if (isAway) {
          if (statement[0].startsWith('update jobs set beat')) beats++;
          else asked.push(statement[0]);
          // back when both have been tried a few times
          if (beats >= 3 && asked.length >= 3) isAway = false;
          throw new SqlError('not_sent', 'PostgreSQL cannot be reached.');
        }
        return sql.query<Row>(...statement);
      },
    };
    const trained = async (options: TrainOptions) => {
      const card = await trainer(0.97)(options);
      isAway = true;
      return card;
    };
    const job = await work(NAME, {
      sql: away,
      train: (how) => trainCandidate({ ...how, model: NAME, roots: roots(), objects: null, trainer: trained }),
    });
    expect([...new Set(asked)]).toEqual([expect.stringMatching(/^insert into models/)]);
    expect(job).toMatchObject({ status: 'done', progress: 1, result: { promoted: true } });
    // away at its very end
    asked.length = beats = 0;
    const last = await work(NAME, {
      sql: away,
      async tried() {
        isAway = true;
        return { checked: true, note: 'Not all nodes can load it.' };
      },
    });
    expect(asked[0]).toMatch(/^with mine as/);
    expect(last).toMatchObject({
      status: 'done',
      message: expect.stringMatching(/is live\. Not all nodes can load it\.$/),
    });
  });

  it('puts nothing live that nobody wants any more, and what is live is not cancelled', async () => {
    const before = await liveNow();
    const ends = {
      cancelled: (id: string) => cancelJob(sql, id, 'me'),
      failed: (id: string) => sql.query(`update jobs set status = 'failed', message = 'buried' where id = $1`, [id]),
    };
    for (const [status, end] of Object.entries(ends))
      for (const isTold of [true, false]) {
        const abort = new AbortController();
        const job = await work(NAME, {
          abort,
          train: better(),
          async tried() {
            await end(await running());
            if (isTold) abort.abort();
            return { checked: true, note: null };
          },
        });
        expect([job.status, await liveNow()]).toEqual([status, before]);
      }
    const abort = new AbortController();
    let hasTried = false;
    const train: WorkOptions['train'] = async (how) => {
      const trained = await trainCandidate({
        ...how,
        model: NAME,
        roots: roots(),
        objects: null,
        trainer: trainer(0.995),
      });
      await cancelJob(sql, await running(), 'me');
      abort.abort();
      return trained;
    };
    const tried = async () => {
      hasTried = true;
      return { checked: true, note: null };
    };
    expect(await work(NAME, { abort, train, tried })).toMatchObject({ status: 'cancelled' });
    expect([hasTried, await liveNow()]).toEqual([false, before]);
    let id = '';
    let cancelling: Promise<unknown> = Promise.resolve();
    const job = await work(NAME, {
      train: better(),
      async tried() {
        id = await running();
        return { checked: true, note: null };
      },
      // the version is live, and the work has not come further
      onChanged() {
        cancelling = cancelJob(sql, id, 'me').catch((error: unknown) => error);
      },
    });
    expect(await cancelling).toMatchObject({ code: 'conflict', message: 'The job is done already.' });
    expect(job).toMatchObject({ status: 'done', result: { promoted: true, version: await liveNow() } });
  });

  it('puts nothing live by itself that no node has tried, nor in place of another than it was held against', async () => {
    const before = await liveNow();
    const untried = await work(NAME, {
      train: better(),
      tried: async () => ({ checked: false, note: `${NAME} was not tried, because nobody is there.` }),
    });
    expect(untried).toMatchObject({
      status: 'done',
      message: expect.stringMatching(/is a candidate; it did not go live: .*was not tried, because nobody is there\./),
      result: { promoted: false },
    });
    expect(await liveNow()).toBe(before);
    const { version: other } = untried.result as { version: string };
    const train = better();
    const late = await work(NAME, {
      async train(how) {
        const trained = await train(how);
        await promote(sql, NAME, other, { by: 'me', reason: 'meanwhile' });
        return trained;
      },
    });
    expect(late).toMatchObject({
      status: 'done',
      message: expect.stringContaining(`it did not go live: ${NAME}@${other} is live by now, and it was held against`),
    });
    expect(await liveNow()).toBe(other);
  });

  it('that fails says so', async () => {
    const job = await work(NAME, { train: () => Promise.reject(new TwinmeshError('bad_request', 'no rows')) });
    expect(job).toMatchObject({ status: 'failed', message: 'no rows' });
  });

  it('is not buried by who has not reached the database all along', async () => {
    let now = 0;
    const burial = new Burial({ ...systemClock, monotonic: () => now });
    const away: Sql = { ...sql, query: () => Promise.reject(new SqlError('not_sent', 'away')) };
    const { id } = await enqueue(sql, { type: 'worked', name: 'quiet', params: {}, by: 'me' });
    await claimJob(sql, 'worked', 'worker');
    await sql.query(`update jobs set beat = now() - interval '10 minutes' where id = $1`, [id]);
    const looks = async (seconds: number) => {
      const buried: string[] = [];
      for (let s = 0; s < seconds; s += 15) {
        buried.push(...(await burial.look(sql)).map((job) => job.id));
        now += 15_000;
      }
      return buried;
    };
    expect(await looks(60)).toEqual([]);
    await expect(burial.look(away)).rejects.toMatchObject({ code: 'store_down' });
    expect(await looks(60)).toEqual([]);
    // a look that stood still
    now += 45_000;
    expect(await looks(60)).toEqual([]);
    expect(await looks(15)).toEqual([id]);
  });
});

describe('a trained version', () => {
  it('counts as trained here, whoever came upon its folder first', async () => {
    const card = version(join(folder, 'elsewhere'), '8.0.0', 0.9);
    await registerModel(sql, card, 'models folder');
    await registerTrained(sql, card);
    const [found] = (await listModels(sql, NAME)).filter((model) => model.version === '8.0.0');
    expect(found).toMatchObject({ source: TRAINED, status: 'candidate' });
    await expect(registerTrained(sql, { ...card, sha256: 'f'.repeat(64) })).rejects.toMatchObject({ code: 'conflict' });
    await sql.query(`delete from models where name = $1 and version = '8.0.0'`, [NAME]);
  });

  it('is not begun where its folder cannot be written', async () => {
    const file = join(folder, 'a-file');
    writeFileSync(file, '');
    let hasTrained = false;
    const training = trainCandidate({
      sql,
      model: NAME,
      roots: [join(folder, 'built-in'), join(file, 'models')],
      objects: null,
      signal: new AbortController().signal,
      onProgress: () => {},
      trainer: async (options) => {
        hasTrained = true;
        return trainer(0.9)(options);
      },
    });
    await expect(training).rejects.toMatchObject({ code: 'unavailable' });
    expect(hasTrained).toBe(false);
  });
});

describe('a trainer', () => {
  it('gets none of the secrets of the node, and gives way to it', async () => {
    vi.stubEnv('DATABASE_URL', 'postgres://me:hush@127.0.0.1/x');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'hush');
    const said: string[] = [];
    // its parent lowers it just after it has begun
    const program = `setTimeout(() => console.log(os.getPriority() > 0, 'PATH' in process.env, JSON.stringify(process.env)), 300)`;
    await runProgram(process.execPath, ['-e', program], { onLine: (line) => said.push(line) });
    vi.unstubAllEnvs();
    expect(said[0]).toMatch(/^true true /);
    expect(said.join()).not.toContain('hush');
  });

  it('that does not end when it is told to is killed, with what it has started', async () => {
    const abort = new AbortController();
    const program = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('deaf');`;
    const onLine = () => abort.abort();
    const ran = runProgram(process.execPath, ['-e', program], { onLine, signal: abort.signal, killAfterMs: 20 });
    await expect(ran).rejects.toMatchObject({ message: expect.stringContaining('SIGKILL') });
  });
});

describe('counts of drift', () => {
  it('lose nothing of two flushes that meet', async () => {
    const [{ card }] = await sql.query<{ card: ModelCard }>(
      `select card from models where name = $1 and status = 'live'`,
      [NAME],
    );
    // the first statement of a flush is held up until the second flush has come as far as it may
    let hold: (() => void) | null = null;
    const slow: Sql = {
      ...sql,
      query: async <Row>(...asked: Parameters<Sql['query']>) => {
        const rows = await sql.query<Row>(...asked);
        if (hold === null && asked[0].startsWith('select counts'))
          await new Promise<void>((resolve) => {
            hold = resolve;
          });
        return rows;
      },
    };
    const clock = { ...systemClock, now: () => Date.UTC(2025, 0, 1) };
    const book = new DriftBook({ sql: slow, clock, node: 'meet', onFault: (error) => expect.fail(String(error)) });
    book.observe(card, { model: NAME, inputs: new Float32Array(20), rows: 10, at: [] });
    const first = book.flush();
    await expect.poll(() => hold).not.toBeNull();
    book.observe(card, { model: NAME, inputs: new Float32Array(20), rows: 10, at: [] });
    const second = book.close();
    await sql.query('select 1');
    await sql.query('select 1');
    hold!();
    await Promise.all([first, second]);
    const [row] = await sql.query<{ rows: number; counts: { bins: number[]; missing: number }[] }>(
      `select rows, counts from drift_counts where node = 'meet'`,
    );
    expect(row.rows).toBe(20);
    for (const { bins, missing } of row.counts) expect(bins.reduce((sum, n) => sum + n, missing)).toBe(20);
    await sql.query(`delete from drift_counts where node = 'meet'`);
  });

  it('is seen by input, told once when it begins and once when it ends', async () => {
    const [{ card }] = await sql.query<{ card: ModelCard }>(
      `select card from models where name = $1 and status = 'live'`,
      [NAME],
    );
    const faults: unknown[] = [];
    let hour = 0;
    const clock = { ...systemClock, now: () => Date.UTC(2026, 0, 1, hour) };
    const book = new DriftBook({ sql, clock, node: 'a', onFault: (error) => void faults.push(error) });
    const random = seededRandom(5);
    const ask = async (shift: number) => {
      for (let call = 0; call < 40; call++) {
        // spread over seven hours
        if (call % 6 === 0) hour++;
        const inputs = Float32Array.from({ length: 100 }, (_, i) => gaussian(random) + (i % 2 === 1 ? shift : 0));
        book.observe(card, { model: NAME, inputs, rows: 50, at: [] });
        if (call % 6 === 5) await book.flush();
      }
    };
    const judge = async () => {
      await book.flush();
      const report = await driftReport(sql, 0);
      return { report, changes: await judgeDrift(sql, report, 0.2, clock.now()) };
    };
    await ask(0);
    const calm = await judge();
    expect(calm.changes).toEqual([]);
    expect(calm.report[0].inputs.map(({ psi }) => psi! < 0.1)).toEqual([true, true]);
    await ask(3);
    const moved = await judge();
    expect(moved.report[0]).toMatchObject({ model: NAME, version: '1.0.0', kind: 'machine', rows: 4_000 });
    expect(moved.changes).toEqual([expect.objectContaining({ input: 'vibration', drifting: true })]);
    const [temperature, vibration] = moved.report[0].inputs;
    expect(vibration.psi).toBeGreaterThan(10 * temperature.psi!);
    expect(vibration.bins.reduce((sum, bin) => sum + bin.observed, 0)).toBeCloseTo(1, 9);
    expect((await judge()).changes).toEqual([]);
    await sql.query('delete from drift_counts');
    await ask(0);
    expect((await judge()).changes).toEqual([expect.objectContaining({ input: 'vibration', drifting: false })]);
    // told of a version that is live no more: those who heard of it hear of the end, once
    await sql.query(`update drift_states set version = '0.9.0', drifting = true where input = 'vibration'`);
    expect((await judge()).changes).toEqual([
      expect.objectContaining({ input: 'vibration', version: '1.0.0', drifting: false }),
    ]);
    expect((await judge()).changes).toEqual([]);
    await book.close();
    expect(faults).toEqual([]);
  });
});

describe('MLflow', () => {
  const settled = (mlflow: MlflowSink, onFault: (error: unknown) => void, more: Partial<Settling> = {}) =>
    settle({ sql, clock: systemClock, mlflow, node: 'n', objects: null, onFault, ...more });
  const ended = async (name: string, files = join(folder, 'trained', NAME, '1.2.0')) => {
    const job = await enqueue(sql, { type: 'written', name, params: {}, by: 'me' });
    await claimJob(sql, 'written', 'n');
    const result = {
      version: '1.2.0',
      folder: files,
      scores: [score(0.95)],
      training: { seed: 7, split: 'cells left out' },
      better: true,
    };
    await endJob(sql, job.id, 'n', { status: 'done', message: 'well', result, toMlflow: true });
    return job.id;
  };

  it('that is away is asked again later, and the run is not lost', async () => {
    const job = await ended('patience');
    const runs: MlflowRun[] = [];
    const faults: unknown[] = [];
    let isAway = true;
    const mlflow = {
      async write(run: MlflowRun) {
        if (isAway) throw new TwinmeshError('unavailable', 'MLflow does not answer.');
        runs.push(run);
        return 'run-1';
      },
    };
    expect(await settled(mlflow, (error) => void faults.push(error))).toBe(0);
    expect(faults).toHaveLength(1);
    // not before its time
    expect(await settled(mlflow, () => {})).toBe(0);
    isAway = false;
    await sql.query('update mlflow_outbox set next_at = now()');
    expect(await settled(mlflow, () => {})).toBe(1);
    expect(runs).toEqual([
      expect.objectContaining({
        job,
        failed: false,
        metrics: { 'R² made up': 0.95 },
        params: { seed: '7', split: 'cells left out' },
      }),
    ]);
    expect(await settled(mlflow, () => {})).toBe(0);
  });

  it('gets no run without the files of the version: the node that has them sends it, or who finds them', async () => {
    const runs: MlflowRun[] = [];
    const mlflow = { write: async (run: MlflowRun) => `run ${runs.push(run)}` };
    const faults: unknown[] = [];
    const onFault = (error: unknown) => void faults.push(error);
    const job = await ended(NAME, '/on/one/node/only');
    // theirs first
    expect(await settled(mlflow, onFault, { node: 'other' })).toBe(0);
    expect(faults).toEqual([]);
    const due = `update mlflow_outbox set next_at = now() - interval '3 minutes' where job = $1`;
    await sql.query(due, [job]);
    const further = await ended('further');
    await sql.query(due, [further]);
    // one whose files are here goes all the same
    expect(await settled(mlflow, onFault, { node: 'other' })).toBe(1);
    expect(runs.map((run) => run.job)).toEqual([further]);
    expect(String(faults)).toMatch(/The files of machine-rul@1\.2\.0 are not here; node n has them in \/on\/one\/node/);
    const [row] = await sql.query<{ done: boolean; last_error: string }>(
      'select done_at is not null as done, last_error from mlflow_outbox where job = $1',
      [job],
    );
    expect(row).toEqual({ done: false, last_error: expect.stringMatching(/not here/) });
    await sql.query(due, [job]);
    const objects = new ObjectFolder(join(folder, 'objects'));
    expect(await settled(mlflow, onFault, { node: 'other', objects })).toBe(1);
    expect(runs[1]).toMatchObject({ job, failed: false });
    for (const { path, bytes } of runs[1].artifacts)
      expect(Buffer.from(bytes)).toEqual(readFileSync(join(folder, 'trained', NAME, '1.2.0', path)));
    expect(runs[1].artifacts.map(({ path }) => path)).toEqual(['model.onnx', 'card.json', 'parity.json']);
  });

  it('gets a run from one node, however long that takes', async () => {
    const job = await ended('slowly');
    let release = () => {};
    let writes = 0;
    const slow = {
      async write() {
        writes++;
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        return 'run-2';
      },
    };
    const leftS = async () => {
      const [{ s }] = await sql.query<{ s: number }>(
        'select extract(epoch from next_at - now())::float8 as s from mlflow_outbox where job = $1',
        [job],
      );
      return s;
    };
    // 20 s of its clock are 200 ms
    const clock = { ...systemClock, after: (ms: number, then: () => void) => systemClock.after(ms / 100, then) };
    const sending = settled(slow, (error) => expect.fail(String(error)), { clock });
    await expect.poll(() => writes).toBe(1);
    expect(await leftS()).toBeGreaterThan(15);
    // a good while later
    await sql.query(`update mlflow_outbox set next_at = now() + interval '1 second' where job = $1`, [job]);
    await expect.poll(leftS, { timeout: 5_000 }).toBeGreaterThan(15);
    expect(await settled(slow, () => {}, { clock })).toBe(0);
    release();
    expect(await sending).toBe(1);
    expect(writes).toBe(1);
    await expect(sql.query('select run_id from mlflow_outbox where job = $1', [job])).resolves.toEqual([
      { run_id: 'run-2' },
    ]);
  });

  it('itself takes runs, parameters, scores and artifacts, each run once', { timeout: 900_000 }, async ({ skip }) => {
    const server = await findMlflow();
    if (server === null) return skip('no MLflow here');
    try {
      const job = await ended('real');
      const mlflow = new Mlflow(server.url);
      expect(await settled(mlflow, (error) => expect.fail(String(error)))).toBe(1);
      await sql.query(`update mlflow_outbox set done_at = null, next_at = now() where job = $1`, [job]);
      expect(await settled(mlflow, (error) => expect.fail(String(error)))).toBe(1);
      const ask = async (path: string, body?: unknown) => {
        const init =
          body === undefined
            ? {}
            : { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
        return (await (await fetch(`${server.url}/api/2.0/mlflow/${path}`, init)).json()) as Record<string, never>;
      };
      const { experiment } = await ask('experiments/get-by-name?experiment_name=twinmesh%20real');
      const { runs } = await ask('runs/search', {
        experiment_ids: [(experiment as { experiment_id: string }).experiment_id],
      });
      expect(runs).toHaveLength(1);
      const [{ info, data }] = runs as {
        info: { run_id: string; status: string };
        data: Record<string, { key: string }[]>;
      }[];
      expect(info.status).toBe('FINISHED');
      expect(data.params).toEqual(expect.arrayContaining([{ key: 'seed', value: '7' }]));
      expect(data.metrics).toEqual([expect.objectContaining({ value: 0.95 })]);
      const { files } = await ask(`artifacts/list?run_id=${info.run_id}`);
      expect((files as { path: string }[]).map(({ path }) => path).sort()).toEqual([
        'card.json',
        'model.onnx',
        'parity.json',
      ]);
    } finally {
      await server.stop();
    }
  });

  it('says that it is away without its password', async () => {
    const mlflow = new Mlflow('http://me:hush@127.0.0.1:9');
    const writing = mlflow.write({
      job: 'j',
      experiment: 'e',
      name: 'n',
      startedAt: 0,
      finishedAt: 1,
      failed: false,
      params: {},
      metrics: {},
      tags: {},
      artifacts: [],
    });
    await expect(writing).rejects.toMatchObject({ code: 'unavailable', message: expect.not.stringContaining('hush') });
  });
});
