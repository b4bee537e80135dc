import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * A listening HTTP server that waits for nobody for ever: headers in 10 s, the whole request in 60 s, no connection
 * idle beyond 2 minutes (streams have heartbeats), no header block over 32 KiB.
 */
export type Handler = (req: IncomingMessage, res: ServerResponse, expectsContinue: boolean) => void;

const MAX_CONNECTIONS = 10_000;

export interface Patience {
  headersMs: number;
  requestMs: number;
  idleMs: number;
  keepAliveMs: number;
  checkEveryMs: number;
}

const PATIENCE: Patience = {
  headersMs: 10_000,
  requestMs: 60_000,
  idleMs: 120_000,
  keepAliveMs: 10_000,
  checkEveryMs: 5_000,
};

export function createHttpServer(handler: Handler, patience: Patience = PATIENCE): Server {
  const server = createServer({
    headersTimeout: patience.headersMs,
    requestTimeout: patience.requestMs,
    keepAliveTimeout: patience.keepAliveMs,
    connectionsCheckingInterval: patience.checkEveryMs,
    // The id of a fleet stream comes back in a header and grows with the number of shards.
    maxHeaderSize: 32_768,
    insecureHTTPParser: false,
  });
  server.setTimeout(patience.idleMs);
  server.maxConnections = MAX_CONNECTIONS;
  server.on('request', (req: IncomingMessage, res: ServerResponse) => handler(req, res, false));
  // Not answered by Node itself: a body is asked for only after its sender has been let in.
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => handler(req, res, true));
  server.on('upgrade', (_req: IncomingMessage, socket: Socket) => {
    socket.end('HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    socket.end(`HTTP/1.1 ${statusOf(error.code)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  });
  return server;
}

function statusOf(code: string | undefined): string {
  if (code === 'HPE_HEADER_OVERFLOW') return '431 Request Header Fields Too Large';
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return '408 Request Timeout';
  return '400 Bad Request';
}

/** Resolves when it listens. Throws bad_settings naming the setting, when the port is taken or may not be opened. */
export function listen(server: Server, host: string, port: number, setting = 'PORT'): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => {
      const why: Record<string, string> = {
        EADDRINUSE: `${setting} ${port} is taken by another program; set ${setting} to a free one.`,
        EACCES: `${setting} ${port} may not be opened by this user; set ${setting} to one above 1023.`,
        EADDRNOTAVAIL: `HOST ${host} is no address of this machine.`,
      };
      const message =
        why[error.code ?? ''] ?? `HOST ${host} and ${setting} ${port} cannot be opened: ${error.message}.`;
      reject(new TwinmeshError('bad_settings', message, undefined, { cause: error }));
    };
    server.once('error', onError);
    server.listen(port, host, () => {
      server.off('error', onError);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/** Stops listening and lets what runs end, for `graceMs` at most. */
export async function shut(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
