import { TwinmeshError } from '../../actors/protocol/errors.ts';

const MAX_PARAMETERS = 50;

/**
 * The query string as flat text: no nesting, no arrays, each name once, so that no action meets a shape that it did not
 * ask for. The object has no prototype. Throws bad_request, bad_text.
 */
export function parseQuery(search: string): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  if (search === '') return query;
  const parts = search.split('&');
  if (parts.length > MAX_PARAMETERS)
    throw new TwinmeshError('bad_request', `A query has at most ${MAX_PARAMETERS} parameters.`);
  for (const part of parts) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const name = decoded(equals < 0 ? part : part.slice(0, equals));
    if (name in query) throw new TwinmeshError('bad_request', 'A query parameter is given more than once.');
    query[name] = decoded(equals < 0 ? '' : part.slice(equals + 1));
  }
  return query;
}

function decoded(text: string): string {
  let value: string;
  try {
    value = decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    throw new TwinmeshError('bad_request', 'The query is not valid percent-encoded UTF-8.');
  }
  if (value.includes('\0')) throw new TwinmeshError('bad_text', 'The query holds a NUL character.');
  return value;
}
