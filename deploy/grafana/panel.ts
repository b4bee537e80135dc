/**
 * The few forms of panel that our dashboards have, as Grafana 11 keeps them in JSON. A dashboard is a list of rows, a row a
 * list of panels that share its 24 columns; whoever writes one says what is asked, not where it lies.
 */
export interface Query {
  expr: string;
  /** Name of the series: `{{label}}` stands for a label. */
  legend?: string;
}

export interface Panel {
  title: string;
  /** What it tells and when to worry. */
  description?: string;
  kind?: 'timeseries' | 'stat' | 'gauge' | 'table' | 'logs';
  /** Unit by Grafana's id: short, ms, s, percentunit, bytes, reqps, celsius, percent. */
  unit?: string;
  queries: Query[];
  /** From here on yellow and red; descending values mean that less is worse. */
  thresholds?: [warning: number, critical: number];
  min?: number;
  max?: number;
  stacked?: boolean;
}

export interface Row {
  title: string;
  /** Height in grid units; default 8. */
  height?: number;
  panels: Panel[];
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  tags: string[];
  /** Time span from now; default 1h. */
  from?: string;
  /** A choice above the dashboard, filled from a label. */
  variable?: { name: string; label: string; query: string };
  rows: Row[];
}

const COLUMNS = 24;
const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' };
const LOKI = { type: 'loki', uid: 'loki' };

/** The dashboard as the file that Grafana reads. */
export function dashboardJson({ uid, title, description, tags, from = 'now-1h', variable, rows }: Dashboard): object {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    const height = row.height ?? 8;
    const width = Math.floor(COLUMNS / row.panels.length);
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: COLUMNS, h: 1 },
      panels: [],
    });
    y++;
    row.panels.forEach((panel, i) => {
      panels.push(panelJson(panel, panels.length + 1, { x: i * width, y, w: width, h: height }));
    });
    y += height;
  }
  return {
    uid,
    title,
    description,
    tags: ['twinmesh', ...tags],
    timezone: 'browser',
    editable: false,
    schemaVersion: 39,
    version: 1,
    refresh: '5s',
    time: { from, to: 'now' },
    templating: { list: variable === undefined ? [] : [variableJson(variable)] },
    annotations: { list: [] },
    links: [{ type: 'dashboards', title: 'twinmesh', tags: ['twinmesh'], asDropdown: true, includeVars: false }],
    panels,
  };
}

function panelJson(panel: Panel, id: number, gridPos: object): object {
  const { title, description = '', kind = 'timeseries', queries } = panel;
  const datasource = kind === 'logs' ? LOKI : PROMETHEUS;
  return {
    id,
    type: kind,
    title,
    description,
    datasource,
    gridPos,
    fieldConfig: { defaults: fieldsOf(panel, kind), overrides: [] },
    options: OPTIONS[kind],
    targets: queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource,
      expr,
      ...(legend === undefined ? {} : { legendFormat: legend }),
      ...(kind === 'table' ? { format: 'table', instant: true } : {}),
    })),
  };
}

const OPTIONS = {
  timeseries: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  stat: { reduceOptions: { calcs: ['lastNotNull'], values: false }, colorMode: 'value', graphMode: 'area' },
  gauge: { reduceOptions: { calcs: ['lastNotNull'], values: false }, showThresholdMarkers: true },
  table: { showHeader: true },
  logs: { showTime: true, wrapLogMessage: true, sortOrder: 'Descending' },
};

function fieldsOf({ unit = 'short', min, max, thresholds, stacked }: Panel, kind: string): object {
  return {
    unit,
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    thresholds: { mode: 'absolute', steps: stepsOf(thresholds) },
    ...(kind === 'timeseries'
      ? { custom: { fillOpacity: 10, showPoints: 'never', stacking: { mode: stacked ? 'normal' : 'none' } } }
      : {}),
  };
}

function stepsOf(thresholds: [number, number] | undefined): object[] {
  if (thresholds === undefined) return [{ color: 'green', value: null }];
  const [warning, critical] = thresholds;
  return warning <= critical
    ? [
        { color: 'green', value: null },
        { color: 'yellow', value: warning },
        { color: 'red', value: critical },
      ]
    : [
        { color: 'red', value: null },
        { color: 'yellow', value: critical },
        { color: 'green', value: warning },
      ];
}

function variableJson({ name, label, query }: NonNullable<Dashboard['variable']>): object {
  return {
    name,
    label,
    type: 'query',
    datasource: PROMETHEUS,
    query: { query, refId: name },
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
    sort: 1,
  };
}
