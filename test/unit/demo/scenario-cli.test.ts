import { describe, expect, it } from 'vitest';
import { runCommand } from '../../../services/command-line.ts';
import { scenarioArgs, scenarioCommands } from '../../../services/scenario-cli.ts';

describe('the command line of scenarios', () => {
  it.each([
    [
      ['machine:M1', 'bearing_wear', '0.9'],
      ['start', 'machine:M1', 'bearing_wear', '0.9'],
    ],
    [
      ['machine:M1', 'bearing_wear'],
      ['start', 'machine:M1', 'bearing_wear', '0.5'],
    ],
    [['list'], ['list']],
    [['--help'], ['--help']],
    [
      ['start', 'machine:M1'],
      ['start', 'machine:M1'],
    ],
    [[], []],
  ])('takes %j as %j', (args, meant) => expect(scenarioArgs(args)).toEqual(meant));

  it('says what is missing', async () => {
    const answer = await runCommand(scenarioCommands, scenarioArgs(['machine:M1']));
    expect(answer).toMatchObject({ code: 2, text: expect.stringContaining('TWIN SCENARIO SEVERITY') });
    expect(await runCommand(scenarioCommands, ['--help'])).toMatchObject({ code: 0 });
  });

  it.each(['NaN', 'Infinity', '0', '1.1', 'high'])('refuses severity %s', async (severity) => {
    const answer = await runCommand(scenarioCommands, scenarioArgs(['machine:M1', 'bearing_wear', severity]));
    expect(answer).toMatchObject({ code: 2, text: expect.stringContaining(`"${severity}" is no severity`) });
  });
});
