import { request as httpRequest } from 'node:http';
import { ERRORS, type ErrorCode, TwinmeshError } from '../actors/protocol/errors.ts';
import { controlPath } from './gateway/control-socket.ts';

/** Speaks to the running server of a data folder, as its local admin. */
export interface ControlClient {
  /**
   * `data` of the answer. Throws `unavailable` with `details.running` false when no server runs here, and the error of
   * the server, by its code, when it refuses.
   */
  request<Data = unknown>(method: string, path: string, body?: unknown): Promise<Data>;
  /** The same with a body that is written already. */
  send<Data = unknown>(method: string, path: string, contentType: string, body: string | Uint8Array): Promise<Data>;
}

const TIMEOUT_MS = 30_000;

export function control(settings: { dataDir: string }): ControlClient {
  const socketPath = controlPath(settings.dataDir);
  const send = async <Data>(method: string, path: string, contentType: string, body?: string | Uint8Array) => {
    const { status, text } = await exchange(socketPath, method, path, contentType, body);
    return dataOf<Data>(status, text);
  };
  return {
    request: (method, path, body) =>
      send(method, path, 'application/json', body === undefined ? undefined : JSON.stringify(body)),
    send,
  };
}

/** Whether a server runs on the data folder. Throws what one that is there but does not answer gives. */
export async function isRunning(client: ControlClient): Promise<boolean> {
  try {
    await client.request('GET', '/health/live');
    return true;
  } catch (error) {
    if (error instanceof TwinmeshError && error.details?.running === false) return false;
    throw error;
  }
}

/** `data` of an answer of the gateway. Throws its error, by its code, where it refused. */
export function dataOf<Data>(status: number, text: string): Data {
  const answer = parsed(text);
  if (status < 400) return (answer.status === 'success' ? answer.data : answer) as Data;
  const code = typeof answer.code === 'string' && Object.hasOwn(ERRORS, answer.code) ? answer.code : 'internal';
  throw new TwinmeshError(code as ErrorCode, String(answer.detail ?? `The server answered ${status}.`));
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  contentType: string,
  payload: string | Uint8Array | undefined,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers =
      payload === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) };
    const req = httpRequest({ socketPath, method, path, headers, timeout: TIMEOUT_MS }, (res) => {
      const chunks: Buffer[] = [];
      res.on('data', (chunk: Buffer) => chunks.push(chunk));
      res.on('end', () => resolve({ status: res.statusCode ?? 500, text: Buffer.concat(chunks).toString('utf8') }));
      res.on('error', reject);
    });
    req.on('timeout', () => req.destroy(new TwinmeshError('deadline_exceeded', 'The server did not answer.')));
    req.on('error', (error: NodeJS.ErrnoException) => {
      if (error instanceof TwinmeshError) reject(error);
      else {
        const running = error.code !== 'ENOENT' && error.code !== 'ECONNREFUSED';
        const message = running
          ? `The server cannot be reached: ${error.message}`
          : 'No server runs on this data folder.';
        reject(new TwinmeshError('unavailable', message, { running }, { cause: error }));
      }
    });
    req.end(payload);
  });
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : { data: value };
  } catch {
    return { detail: text };
  }
}
