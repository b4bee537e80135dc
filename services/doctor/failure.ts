import { messageOf, TwinmeshError } from '../../actors/protocol/errors.ts';

/** What a probe threw, as an error with a code. */
export function asTwinmesh(thrown: unknown): TwinmeshError {
  return thrown instanceof TwinmeshError ? thrown : new TwinmeshError('unavailable', messageOf(thrown));
}
