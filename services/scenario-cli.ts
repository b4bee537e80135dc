import { TwinmeshError } from '../actors/protocol/errors.ts';
import { type CommandLine, runProcess, tableText } from './command-line.ts';
import { processSettings } from './config-file.ts';
import { control } from './control-client.ts';

/** `npm run -s scenario`: failure scenarios of the demo fleet, on the server that runs on the data folder. */
interface ScenarioItem {
  kind: string;
  scenario: string;
  description: string;
  twins: string[];
}

const PATH = '/api/v1/demo/scenarios';

const HELP = `Failure scenarios of the demo fleet.

  npm run -s scenario -- TWIN SCENARIO [SEVERITY]
      starts one, e.g. machine:MACHINE_001 bearing_wear 0.9; severity is above 0 and at most 1, 0.5 unless given
  npm run -s scenario -- list               every scenario, and the twins it can be started on

It needs a running server with DEMO=on, on the data folder (DATA_DIR) of this command.
`;

export const scenarioCommands: CommandLine = {
  help: HELP,
  verbs: {
    list: {
      words: [],
      async run() {
        const { items } = await control(processSettings()).request<{ items: ScenarioItem[] }>('GET', PATH);
        const rows = items.map(({ kind, scenario, description, twins }) => [
          kind,
          scenario,
          twins.length > 1 ? `${twins[0]} … ${twins.at(-1)}` : (twins[0] ?? '-'),
          description,
        ]);
        return tableText(['kind', 'scenario', 'twins', 'what happens'], rows);
      },
    },
    start: {
      words: ['TWIN', 'SCENARIO', 'SEVERITY'],
      async run({ TWIN, SCENARIO, SEVERITY }) {
        const severity = Number(SEVERITY);
        // JSON has no NaN: sent as null it would be the default.
        if (!(severity > 0 && severity <= 1))
          throw new TwinmeshError('bad_request', `"${SEVERITY}" is no severity: it is above 0 and at most 1.`);
        const body = { twinId: TWIN, scenario: SCENARIO, severity };
        const started = await control(processSettings()).request<typeof body>('POST', PATH, body);
        return `${started.scenario} has started on ${started.twinId}, severity ${started.severity}`;
      },
    },
  },
};

/** The verb may be left out before a twin, and the severity after a scenario. */
export function scenarioArgs(args: readonly string[]): string[] {
  const short = args[0]?.includes(':') ? ['start', ...args] : [...args];
  return short[0] === 'start' && short.length === 3 ? [...short, '0.5'] : short;
}

if (import.meta.main) {
  process.argv.splice(2, Number.POSITIVE_INFINITY, ...scenarioArgs(process.argv.slice(2)));
  await runProcess(scenarioCommands);
}
