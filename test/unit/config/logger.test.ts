import { describe, expect, it } from 'vitest';
import { BrokerLogger, createLogger } from '../../../services/logger.ts';

function captured(format: 'json' | 'pretty' | 'auto', level = 'trace', terminal = false) {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  return { lines, logger: createLogger({ level, format, node: 'n1', destination, terminal }) };
}

describe('log', () => {
  it('is one JSON object a line with node, time, request and twin', () => {
    const { lines, logger } = captured('auto');
    logger.child({ requestId: 'r-1' }).info({ twinId: 'machine:M1' }, 'folded');
    const line = JSON.parse(lines[0]);
    expect(line).toMatchObject({ level: 'info', node: 'n1', requestId: 'r-1', twinId: 'machine:M1', msg: 'folded' });
    expect(new Date(line.time).toISOString()).toBe(line.time);
  });

  it('is short for eyes on a terminal, with the stack of an error', () => {
    const { lines, logger } = captured('auto', 'info', true);
    logger.warn({ twinId: 'mote:1', err: new Error('no luck') }, 'odd');
    expect(lines[0]).toContain('odd');
    expect(lines[0]).toContain('twinId=mote:1');
    expect(lines[0]).toContain('Error: no luck\n');
    expect(() => JSON.parse(lines[0])).toThrow();
  });

  it('hides what may be a secret', () => {
    const { lines, logger } = captured('json');
    logger.info({ password: 'hush', headers: { authorization: 'Bearer hush', 'x-api-key': 'hush' } }, 'in');
    expect(lines[0]).not.toContain('hush');
    expect(lines[0]).toContain('[hidden]');
  });

  it('takes what Moleculer says: its good news as debug, services as they are, errors with their stack', () => {
    const { lines, logger } = captured('json', 'info');
    const broker = new BrokerLogger(logger);
    const own = broker.getLogHandler({ mod: 'registry' });
    own('info', ['Service registered.']);
    expect(lines).toHaveLength(0);
    own('error', ['It broke:', new Error('why'), { action: 'twins.get' }]);
    expect(JSON.parse(lines[0])).toMatchObject({
      level: 'error',
      mod: 'registry',
      msg: 'It broke:',
      err: { message: 'why' },
    });
    broker.getLogHandler({ mod: 'twins', svc: 'twins' })('info', [{ twinId: 'mote:1' }, 'hello']);
    expect(JSON.parse(lines[1])).toMatchObject({ level: 'info', svc: 'twins', twinId: 'mote:1', msg: 'hello' });
  });
});
