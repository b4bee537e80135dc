import { describe, expect, it } from 'vitest';
import { TwinmeshError } from '../../../actors/protocol/errors.ts';
import { type ExposedAction, RouteTable, routesOf } from '../../../services/gateway/routes.ts';

const action = (name: string, rest: unknown, more: Partial<ExposedAction> = {}): ExposedAction => ({
  name,
  rest,
  role: 'viewer',
  ...more,
});

function table(...actions: ExposedAction[]): RouteTable {
  const { routes, faults } = routesOf(actions);
  expect(faults).toEqual([]);
  return new RouteTable(routes);
}

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return error instanceof TwinmeshError ? error.code : `not ours: ${error}`;
  }
  return undefined;
}

describe('routesOf', () => {
  it('leaves actions without rest alone and names those that would be open by omission', () => {
    const { routes, faults } = routesOf([
      { name: 'a.internal' },
      { name: 'a.open', rest: 'GET /a' },
      action('a.odd', 'GET /b', { role: 'everyone' }),
      action('a.fine', 'GET /c'),
    ]);
    expect(routes.map((r) => r.action)).toEqual(['a.fine']);
    expect(faults).toHaveLength(2);
    expect(faults.join()).toMatch(/a\.open.*a\.odd/);
  });

  it.each([['/a'], ['FETCH /a'], ['GET a'], ['GET /a?b'], ['GET /a /b'], ['GET /{id}'], [{ path: '/a' }], ['* /a']])(
    'refuses %j',
    (rest) => expect(routesOf([action('a', rest)]).faults).toHaveLength(1),
  );

  it('refuses two actions on one method and path, whatever the parameter is called', () => {
    expect(routesOf([action('a', 'GET /x/:id'), action('b', 'GET /x/:name')]).faults).toHaveLength(1);
    expect(routesOf([action('a', 'GET /x/:id'), action('b', 'POST /x/:name')]).faults).toEqual([]);
  });

  it('audits what changes something, except what devices send, unless the action says otherwise', () => {
    const { routes } = routesOf([
      action('read', 'GET /1'),
      action('write', 'POST /2'),
      action('tell', 'POST /3', { role: 'device' }),
      action('ask', 'POST /4', { audit: false }),
    ]);
    expect(routes.map((r) => r.audited)).toEqual([false, true, false, false]);
  });
});

describe('RouteTable', () => {
  const routes = table(
    action('list', 'GET /twins'),
    action('get', 'GET /twins/:id'),
    action('self', 'GET /twins/self'),
    action('put', 'PUT /twins/:id'),
    action('events', 'GET /twins/:id/events'),
    action('rest', 'GET /things/:id/*path'),
    action('root', 'GET /'),
  );

  it('matches paths to actions, literals first', () => {
    expect(routes.match('GET', '/twins').route.action).toBe('list');
    expect(routes.match('GET', '/twins/').route.action).toBe('list');
    expect(routes.match('HEAD', '/twins/a%3Ab')).toMatchObject({ route: { action: 'get' }, params: { id: 'a:b' } });
    expect(routes.match('GET', '/twins/self').route.action).toBe('self');
    expect(routes.match('GET', '/twins/self/events')).toMatchObject({
      route: { action: 'events' },
      params: { id: 'self' },
    });
    expect(routes.match('GET', '/things/t/a/b%20c').params).toEqual({ id: 't', path: 'a/b c' });
    expect(routes.match('GET', '/').route.action).toBe('root');
  });

  it('falls back from a literal that leads nowhere, also for another method', () => {
    expect(routes.match('GET', '/twins/self/events').route.action).toBe('events');
    expect(codeOf(() => routes.match('PUT', '/twins/self'))).toBe('method_not_allowed');
  });

  it.each([
    ['GET', '/nothing', 'not_found'],
    ['GET', '/twins//events', 'not_found'],
    ['GET', '/twins/x/y/z', 'not_found'],
    ['GET', '/constructor', 'not_found'],
    ['GET', '/twins/%E0%A4%A', 'bad_request'],
    ['GET', '/twins/%00', 'bad_text'],
    ['DELETE', '/twins', 'method_not_allowed'],
  ])('%s %s is %s', (method, path, code) => {
    expect(codeOf(() => routes.match(method, path))).toBe(code);
  });

  it('says which methods a path takes', () => {
    expect(routes.allow('/twins/x')).toBe('GET, PUT, HEAD, OPTIONS');
    expect(routes.allow('/nothing')).toBeNull();
  });
});
