import { TwinmeshError } from '../../actors/protocol/errors.ts';
import { ACCESS, type Access } from './caller.ts';

/**
 * Which request reaches which action. Made from the actions that carry `rest`; it owns no policy beside this:
 *  1. An action with `rest` and without a valid `role` is a fault: nothing is ever exposed by leaving a line out.
 *  2. Two actions never share a method and path.
 *  3. A literal segment wins over a parameter, a parameter over a trailing `*rest`.
 */
export interface ExposedAction {
  name: string;
  rest?: unknown;
  role?: unknown;
  visibility?: string;
  params?: Record<string, unknown>;
  openapi?: RouteDocs;
  /** Whether calls are written to the audit trail; default: all but GET and those of devices. */
  audit?: boolean;
  timeout?: number;
}

/** What an action says about itself over HTTP. */
export interface RouteDocs {
  summary?: string;
  description?: string;
  tags?: string[];
  /** JSON Schema of `data`. */
  response?: Record<string, unknown>;
  /** `json` (default): an object, its members become params. `raw`: the bytes become the param `body`. */
  body?: 'json' | 'raw';
  /** The whole JSON body becomes this one param instead of being spread over them. */
  bodyParam?: string;
  /** Content types of a raw body, with an example each. */
  bodyTypes?: Record<string, { schema?: Record<string, unknown>; example?: unknown }>;
  bodyExample?: unknown;
  maxBodyBytes?: number;
  /** False: `data` goes out as it is, without the envelope. */
  envelope?: false;
  stream?: 'sse' | 'csv' | 'parquet';
  /** The action that answers instead where the client accepts text/event-stream. */
  streamAction?: string;
}

export interface Route {
  method: string;
  path: string;
  segments: readonly string[];
  action: string;
  access: Access;
  audited: boolean;
  params: Record<string, unknown>;
  docs: RouteDocs;
  timeoutMs: number | undefined;
}

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
const PATH = /^(\/[A-Za-z0-9._~-]+|\/:[A-Za-z][A-Za-z0-9_]*)*(\/\*[A-Za-z][A-Za-z0-9_]*|\/)?$/;

/** Routes of the given actions; `faults` names every action that must not be exposed as it is. */
export function routesOf(actions: readonly ExposedAction[]): { routes: Route[]; faults: string[] } {
  const routes: Route[] = [];
  const faults: string[] = [];
  const taken = new Map<string, string>();
  for (const action of actions) {
    if (action.rest === undefined || action.rest === null) continue;
    if (!(ACCESS as readonly unknown[]).includes(action.role)) {
      faults.push(`${action.name}: rest without a role of ${ACCESS.join(', ')}`);
      continue;
    }
    for (const rest of Array.isArray(action.rest) ? action.rest : [action.rest]) {
      const [method, path, more] = typeof rest === 'string' ? rest.split(' ') : [];
      if (!METHODS.includes(method) || !PATH.test(path ?? ' ') || more !== undefined) {
        faults.push(`${action.name}: rest must be "METHOD /path", not ${JSON.stringify(rest)}`);
        continue;
      }
      const shape = `${method} ${path.replace(/[:*][^/]+/g, (p) => p[0])}`;
      const other = taken.get(shape);
      if (other !== undefined && other !== action.name)
        faults.push(`${action.name}: ${method} ${path} is ${other}'s already`);
      if (other !== undefined) continue;
      taken.set(shape, action.name);
      const access = action.role as Access;
      routes.push({
        method,
        path,
        segments: path.split('/').slice(1),
        action: action.name,
        access,
        audited: action.audit ?? (method !== 'GET' && access !== 'device'),
        params: action.params ?? {},
        docs: action.openapi ?? {},
        timeoutMs: action.timeout,
      });
    }
  }
  return { routes, faults };
}

export interface Match {
  route: Route;
  params: Record<string, string>;
}

interface Node {
  literal: Map<string, Node>;
  parameter: Node | undefined;
  methods: Map<string, Route> | undefined;
  wildcard: Map<string, Route> | undefined;
}

const emptyNode = (): Node => ({ literal: new Map(), parameter: undefined, methods: undefined, wildcard: undefined });

export class RouteTable {
  readonly routes: readonly Route[];
  #root = emptyNode();

  constructor(routes: readonly Route[]) {
    this.routes = routes;
    for (const route of routes) this.#add(route);
  }

  #add(route: Route): void {
    let node = this.#root;
    for (const segment of route.segments) {
      if (segment.startsWith('*')) {
        node.wildcard ??= new Map();
        node.wildcard.set(route.method, route);
        return;
      }
      if (segment.startsWith(':')) {
        node.parameter ??= emptyNode();
        node = node.parameter;
      } else {
        let next = node.literal.get(segment);
        if (!next) {
          next = emptyNode();
          node.literal.set(segment, next);
        }
        node = next;
      }
    }
    node.methods ??= new Map();
    node.methods.set(route.method, route);
  }

  /** Throws not_found, method_not_allowed (with `details.allow`), bad_request for a path that is no valid UTF-8. */
  match(method: string, path: string): Match {
    const segments = segmentsOf(path);
    const methods = this.#find(this.#root, segments, 0);
    if (!methods) throw new TwinmeshError('not_found', `There is nothing at ${printable(path)}.`);
    const route = methods.get(method === 'HEAD' ? 'GET' : method);
    if (!route) {
      throw new TwinmeshError('method_not_allowed', `${printable(path)} does not take ${printable(method)}.`, {
        allow: allowOf(methods),
      });
    }
    const params: Record<string, string> = {};
    for (let i = 0; i < route.segments.length; i++) {
      const segment = route.segments[i];
      if (segment.startsWith(':')) params[segment.slice(1)] = decoded(segments[i]);
      else if (segment.startsWith('*')) params[segment.slice(1)] = segments.slice(i).map(decoded).join('/');
    }
    return { route, params };
  }

  /** Methods of a path for `Allow`, or null where there is nothing. */
  allow(path: string): string | null {
    const methods = this.#find(this.#root, segmentsOf(path), 0);
    return methods ? allowOf(methods) : null;
  }

  #find(node: Node, segments: readonly string[], index: number): Map<string, Route> | undefined {
    if (index === segments.length) return node.methods;
    const segment = segments[index];
    const literal = node.literal.get(segment);
    const found =
      (literal && this.#find(literal, segments, index + 1)) ??
      (node.parameter && segment !== '' ? this.#find(node.parameter, segments, index + 1) : undefined);
    return found ?? node.wildcard;
  }
}

function segmentsOf(path: string): string[] {
  const trimmed = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
  return trimmed.split('/').slice(1);
}

function allowOf(methods: Map<string, Route>): string {
  const names = [...methods.keys()];
  if (methods.has('GET')) names.push('HEAD');
  return [...names, 'OPTIONS'].join(', ');
}

function decoded(segment: string): string {
  let text: string;
  try {
    text = decodeURIComponent(segment);
  } catch {
    throw new TwinmeshError('bad_request', 'The path is not valid percent-encoded UTF-8.');
  }
  if (text.includes('\0')) throw new TwinmeshError('bad_text', 'The path holds a NUL character.');
  return text;
}

/** A piece of the request, short and without control characters, for a message. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
