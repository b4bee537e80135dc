import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GatewayNode, startGateway } from './node.ts';

let node: GatewayNode;
beforeAll(async () => {
  node = await startGateway();
  await node.tell('machine', 'M1', { temperature: 60 });
});
afterAll(() => node?.stop());

describe('gateway', () => {
  it('answers a twin in the envelope', async () => {
    const answer = await node.http('GET', '/api/v1/twins/machine:M1', { key: node.keys.viewer });
    console.log(answer.text, answer.headers);
    expect(answer.status).toBe(200);
  });
});
