import { CATALOGUE, UNBUILT } from './catalogue.ts';
import { GROUPS, type Group, type Setting } from './setting.ts';

const TITLES: Record<Group, string> = {
  mesh: 'Mesh',
  listening: 'Listening',
  storage: 'State and history',
  runtime: 'Runtime',
  models: 'Models',
  ingest: 'Ingest',
  events: 'Events out',
  archive: 'Archive and object storage',
  access: 'Access',
  observability: 'Observability',
  demo: 'Demo',
};

/** The text of `npm start -- --help`: every setting by group, with form, unit, default and consequence. */
export function helpText(columns = 100): string {
  const lines = [
    'twinmesh: every physical asset is one stateful, durable actor.',
    '',
    '  npm start                 starts a node on embedded defaults',
    '  npm start -- --help       this text',
    '  npm start -- --check      reads the settings, reports every fault, starts nothing',
    '  npm start -- --version    the version',
    '',
    'Settings are environment variables, or keys of the same name in twinmesh.config.json in the',
    'folder where twinmesh is started; the environment wins.',
  ];
  const settings = Object.entries(CATALOGUE) as [string, Setting<unknown>][];
  for (const group of GROUPS) {
    lines.push('', TITLES[group]);
    for (const [name, setting] of settings.filter(([, s]) => s.group === group)) {
      lines.push(
        `  ${name}  ${describe(setting)}`,
        ...wrapped(setting.consequence, columns - 6).map((l) => `      ${l}`),
      );
    }
  }
  lines.push('', 'Not available in this version: refused at start, or without effect');
  lines.push(...wrapped(Object.keys(UNBUILT).join(', '), columns - 6).map((line) => `      ${line}`));
  return `${lines.join('\n')}\n`;
}

/** `<form> [unit], default …` of one setting. */
export function describe(setting: Setting<unknown>): string {
  const unit = setting.unit === '' || setting.unit === 'port' ? '' : ` ${setting.unit}`;
  return `${setting.form}${unit}, default ${defaultText(setting.default)}`;
}

function defaultText(value: unknown): string {
  if (value === null || (Array.isArray(value) && value.length === 0)) return 'none';
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value);
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
