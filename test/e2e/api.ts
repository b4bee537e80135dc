import { eventually, type Whereabouts } from './node-process.ts';

/** The HTTP API of a node, as a client with a key sees it. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of any shape
  json: any;
}

export interface Asked {
  key?: string | null;
  headers?: Record<string, string>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is. */
  raw?: string | Uint8Array;
  /** Hangs up; the answer is then an error of `fetch`. */
  signal?: AbortSignal;
}

export async function ask(http: string, method: string, path: string, asked: Asked = {}): Promise<Answer> {
  const headers: Record<string, string> = { ...asked.headers };
  if (asked.key) headers.authorization = `Bearer ${asked.key}`;
  if (asked.body !== undefined) headers['content-type'] ??= 'application/json';
  const body = asked.body === undefined ? (asked.raw as string | undefined) : JSON.stringify(asked.body);
  const answer = await fetch(`${http}${path}`, { method, headers, body, signal: asked.signal });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, text, json: parsed(text) };
}

/** What is in the envelope; throws with the whole answer where it is none of success. */
export async function dataOf(at: Pick<Whereabouts, 'http' | 'key'>, path: string, method = 'GET', body?: unknown) {
  const answer = await ask(at.http, method, path, { key: at.key, body });
  if (answer.json?.status !== 'success') throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  return answer.json.data;
}

/** Every item of a list, page by page. */
// biome-ignore lint/suspicious/noExplicitAny: items of any shape
export async function itemsOf(at: Pick<Whereabouts, 'http' | 'key'>, path: string): Promise<any[]> {
  const items: unknown[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: { items: unknown[]; nextCursor: string | null } = await dataOf(
      at,
      `${path}${path.includes('?') ? '&' : '?'}limit=500${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    );
    items.push(...page.items);
    cursor = page.nextCursor;
  }
  return items;
}

/** Sum of the series of a metric whose labels are the given ones; 0 where there is none yet. */
export async function metricOf(http: string, name: string, labels: Record<string, string> = {}): Promise<number> {
  const text = await (await fetch(`${http}/metrics`)).text();
  let sum = 0;
  for (const [, series, value] of text.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))) {
    const fits = Object.entries(labels).every(([label, wanted]) => series?.includes(`${label}="${wanted}"`));
    if (fits) sum += Number(value);
  }
  return sum;
}

/** Every shard has been recovered: twins answer. */
export async function untilReady(http: string): Promise<void> {
  await eventually(
    async () => (await ask(http, 'GET', '/health/ready')).status,
    (status) => status === 200,
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
