import http from 'node:http';

/**
 * Requests at a steady rate over kept connections, in a process of its own, so that the caller's work is not counted as the
 * nodes'. An open loop: an answer that is slow does not slow the next request. Reads its task from stdin as JSON and prints
 * the times as JSON.
 */
export interface Task {
  /** Gateways, asked in turn. */
  urls: string[];
  key: string;
  /** `{n}` stands for the number of a twin. */
  path: string;
  twins: number;
  perSecond: number;
  seconds: number;
}

export interface Times {
  times: number[];
  failed: string[];
  /** The most that a request left later than it was due, ms: what the client itself was short of. */
  lateMs: number;
}

async function main(): Promise<void> {
  let text = '';
  for await (const chunk of process.stdin) text += chunk;
  const task = JSON.parse(text) as Task;
  const pools = task.urls.map(() => new http.Agent({ keepAlive: true, maxSockets: 64 }));
  const result: Times = { times: [], failed: [], lateMs: 0 };
  const open = new Set<Promise<void>>();
  const startedAt = performance.now();
  const all = task.perSecond * task.seconds;
  for (let sent = 0; sent < all; ) {
    const now = performance.now() - startedAt;
    for (; sent < all && (sent / task.perSecond) * 1000 <= now; sent++) {
      const late = now - (sent / task.perSecond) * 1000;
      if (late > result.lateMs) result.lateMs = late;
      const i = sent % task.urls.length;
      const path = task.path.replace('{n}', String((sent * 7919) % task.twins));
      const one = ask(`${task.urls[i]}${path}`, pools[i], task.key, result).finally(() => open.delete(one));
      open.add(one);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(open);
  for (const pool of pools) pool.destroy();
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function ask(url: string, pool: http.Agent, key: string, result: Times): Promise<void> {
  return new Promise((resolve) => {
    const from = performance.now();
    const failed = (why: string): void => {
      if (result.failed.length < 1_000) result.failed.push(why);
      resolve();
    };
    http
      .get(url, { agent: pool, headers: { authorization: `Bearer ${key}` } }, (response) => {
        response.resume();
        response.on('end', () => {
          if (response.statusCode !== 200) return failed(String(response.statusCode));
          result.times.push(performance.now() - from);
          resolve();
        });
      })
      .on('error', (error) => failed(error.message));
  });
}

if (import.meta.main) await main();
