import { gunzip } from 'node:zlib';
import { TwinmeshError } from '../../actors/protocol/errors.ts';

/**
 * Unpacks gzip to at most `maxBytes`: it stops there, so that a small body cannot become a large one. Runs off the
 * event loop. Throws `too_large`, `bad_request` for what is no gzip.
 */
export function gunzipBounded(packed: Uint8Array, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    gunzip(packed, { maxOutputLength: maxBytes }, (error, unpacked) => {
      if (!error) resolve(unpacked);
      else if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
        reject(new TwinmeshError('too_large', `The body unpacks to more than the ${maxBytes} bytes that are allowed.`));
      else reject(new TwinmeshError('bad_request', 'The body is not valid gzip.'));
    });
  });
}
