import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { nearest } from '../../config/nearest.ts';
import { printable, type Route } from './routes.ts';

const MAX_SHOWN = 60;

/**
 * Refuses names in the query that the route does not know: a misspelled `filter` would otherwise answer everything.
 * Throws bad_request that says which name, and which one is near it.
 */
export function checkQueryNames(route: Route, query: Readonly<Record<string, unknown>>): void {
  const inPath = route.segments.filter((segment) => /^[:*]/.test(segment)).map((segment) => segment.slice(1));
  const raw = route.docs.body === 'raw' ? ['body'] : [];
  const known = Object.keys(route.params).filter(
    (name) => !name.startsWith('$$') && !inPath.includes(name) && !raw.includes(name),
  );
  for (const name of Object.keys(query)) {
    if (known.includes(name)) continue;
    const shown = printable(name).slice(0, MAX_SHOWN);
    const near = nearest(shown, known);
    const takes = known.length === 0 ? 'this path takes none' : `this path takes ${known.join(', ')}`;
    const hint = near === undefined ? takes : `did you mean "${near}"?`;
    throw new TwinmeshError('bad_request', `There is no query parameter "${shown}" here: ${hint}${near ? '' : '.'}`);
  }
}
