import type { AddressInfo, Server } from 'node:net';
import { TwinmeshError } from '../actors/protocol/errors.ts';

/** Opens a port; answers which. Throws `bad_settings` naming the setting. */
export function listen(server: Server, setting: string, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => {
      const why: Record<string, string> = {
        EADDRINUSE: `${setting} ${port} is taken by another program; set ${setting} to a free one.`,
        EACCES: `${setting} ${port} may not be opened by this user; set ${setting} to one above 1023.`,
        EADDRNOTAVAIL: `HOST ${host} is no address of this machine.`,
      };
      const message = why[error.code ?? ''] ?? `${setting} ${port} on ${host} cannot be opened: ${error.message}.`;
      reject(new TwinmeshError('bad_settings', message, undefined, { cause: error }));
    };
    server.once('error', onError);
    server.listen(port, host, () => {
      server.off('error', onError);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
