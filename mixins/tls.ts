import { readFileSync } from 'node:fs';
import { TwinmeshError } from '../actors/protocol/errors.ts';

/** The settings of every encrypted connection to another server. */
export interface TlsSettings {
  readonly tlsCaFile: string | null;
  readonly tlsCertFile: string | null;
  readonly tlsKeyFile: string | null;
}

/** PEM texts, as node:tls takes them. What is not set is not there, so that the defaults of the system hold. */
export interface TlsFiles {
  ca?: string;
  cert?: string;
  key?: string;
}

/** Throws `bad_settings` for a file that cannot be read. */
export function tlsFiles({ tlsCaFile, tlsCertFile, tlsKeyFile }: TlsSettings): TlsFiles {
  return {
    ...(tlsCaFile === null ? {} : { ca: read('TLS_CA_FILE', tlsCaFile) }),
    ...(tlsCertFile === null ? {} : { cert: read('TLS_CERT_FILE', tlsCertFile) }),
    ...(tlsKeyFile === null ? {} : { key: read('TLS_KEY_FILE', tlsKeyFile) }),
  };
}

function read(setting: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new TwinmeshError('bad_settings', `${setting} cannot be read: ${file}.`, undefined, { cause: error });
  }
}
