import { type NatsAccess, natsOptions } from '../actors/log/jetstream-connection.ts';
import type { Settings } from '../config/settings.ts';

export { natsOptions };

/** How this node reaches NATS, by its settings. `purpose` names the connection on the server: a node has several. */
export function natsAccess(settings: Settings, purpose: string): NatsAccess {
  return {
    url: settings.natsUrl as string,
    credentialsFile: settings.natsCredentialsFile,
    tls: { caFile: settings.tlsCaFile, certFile: settings.tlsCertFile, keyFile: settings.tlsKeyFile },
    name: `twinmesh ${settings.nodeId} ${purpose}`,
  };
}
