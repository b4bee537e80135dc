import { TwinmeshError } from '../protocol/errors.ts';

/** Who sent a message, as its key says. */
export interface Speaker {
  keyId: string;
  name: string;
  role: 'viewer' | 'technician' | 'operator' | 'admin' | 'device';
  /** The one twin a device speaks as. */
  twinId?: string;
  /** A device that may speak as any. */
  gateway?: boolean;
}

/** Whether the speaker may send a reading of this asset. Throws `not_yourself`, `forbidden`. */
export function mayTell(speaker: Speaker, kind: string, id: string): void {
  if (speaker.role === 'operator' || speaker.role === 'admin') return;
  if (speaker.role !== 'device') {
    throw new TwinmeshError(
      'forbidden',
      `A key with the role ${speaker.role} may not send telemetry; device, operator and admin may.`,
    );
  }
  if (speaker.gateway === true) return;
  const own = speaker.twinId;
  // Compared in parts, because this runs for every reading.
  if (
    own !== undefined &&
    own.length === kind.length + 1 + id.length &&
    own.startsWith(kind) &&
    own.endsWith(id) &&
    own[kind.length] === ':'
  )
    return;
  throw new TwinmeshError('not_yourself', `The key is of ${own ?? 'no twin'} and may not speak as ${kind}:${id}.`);
}
