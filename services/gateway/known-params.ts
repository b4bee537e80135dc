import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { type Route, printable, takesBody } from './routes.ts';

/**
 * Names in the query that a route does not know are refused: a misspelled `filter` would otherwise answer everything.
 * A route that takes a body takes nothing from the query. Throws bad_request naming the parameter and the nearest known one.
 */
export function checkQueryNames(route: Route, query: Record<string, unknown>): void {
  const names = Object.keys(query);
  if (names.length === 0) return;
  const inPath = new Set(route.segments.filter((s) => /^[:*]/.test(s)).map((s) => s.slice(1)));
  const known = Object.keys(route.params).filter((name) => !name.startsWith('$$') && !inPath.has(name));
  for (const name of names) {
    if (known.includes(name)) continue;
    throw new TwinmeshError('bad_request', `There is no query parameter "${printable(name).slice(0, 60)}" here${hint(name, known)}`);
  }
}
