import { describe, expect, it } from 'vitest';
import { serviceSchemas } from '../../../services/schemas.ts';

interface Described {
  openapi?: { stream?: string; streamAction?: string };
}

describe('actions that answer a stream', () => {
  // Over the mesh a stream has no pressure back and no end from the reader's side: it fills the memory of the gateway, or goes
  // on for ever for somebody who left.
  it('run where the gateway is', async () => {
    const roles = new Map<string, string | undefined>();
    const streamed: string[] = [];
    for (const { name: service, actions = {}, metadata } of await serviceSchemas())
      for (const [key, action] of Object.entries(actions)) {
        const name = `${service}.${key}`;
        roles.set(name, (metadata as { role?: string } | undefined)?.role);
        const { openapi } = action as Described;
        if (openapi?.stream !== undefined) streamed.push(openapi.streamAction ?? name);
      }
    expect(streamed.length).toBeGreaterThan(3);
    expect(streamed.filter((name) => roles.get(name) !== 'gateway')).toEqual([]);
  });
});
