import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** An HTTP server in the place of Slack, PagerDuty or whoever is told. It does as it is told for each request in turn, then answers 200. */
export type Answer = number | 'hang' | 'drop' | { status: number; headers?: Record<string, string>; body?: string };

export interface Taken {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of any shape
  body: any;
  raw: string;
}

export interface LocalReceiver {
  url: string;
  /** Requests that it answered with 2xx. */
  taken: Taken[];
  /** All requests. */
  asked: Taken[];
  /** Answers of the next requests. */
  next(...answers: Answer[]): void;
  /** Answer of every request without one of its own. */
  always(answer: Answer): void;
  stop(): Promise<void>;
}

export async function localReceiver(): Promise<LocalReceiver> {
  const script: Answer[] = [];
  let usual: Answer = 200;
  const taken: Taken[] = [];
  const asked: Taken[] = [];
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const raw = Buffer.concat(chunks).toString('utf8');
      const one = { method: req.method ?? '', path: req.url ?? '', headers: req.headers, raw, body: JSON.parse(raw) };
      asked.push(one);
      const answer = script.shift() ?? usual;
      if (answer === 'drop') req.socket.destroy();
      else if (answer !== 'hang') say(res, answer, () => taken.push(one));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    taken,
    asked,
    next: (...answers) => void script.push(...answers),
    always: (answer) => {
      usual = answer;
    },
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function say(res: ServerResponse, answer: Exclude<Answer, string>, took: () => void): void {
  const { status, headers = {}, body = '' } = typeof answer === 'number' ? { status: answer } : answer;
  if (status >= 200 && status < 300) took();
  res.writeHead(status, headers).end(body);
}
