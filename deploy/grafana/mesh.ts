import type { Dashboard } from './panel.ts';
import { quantile } from './promql.ts';

/** Dashboards of the runtime and of what it writes to: ownership, flow, checkpoints, database. */
export const MESH: Dashboard = {
  uid: 'twinmesh-mesh',
  title: 'Runtime and mesh',
  description: 'Who owns what, how far each is behind, and what a failover did.',
  tags: ['mesh'],
  rows: [
    {
      title: 'Ownership',
      panels: [
        {
          title: 'Shards by owner',
          stacked: true,
          queries: [{ expr: 'twinmesh_shards_owned', legend: '{{instance}}' }],
        },
        {
          title: 'Twins in memory',
          stacked: true,
          queries: [{ expr: 'twinmesh_twins_resident', legend: '{{instance}}' }],
        },
        {
          title: 'In and out of memory',
          queries: [
            { expr: 'sum(rate(twinmesh_activations_total[1m]))', legend: 'activations/s' },
            { expr: 'sum(rate(twinmesh_passivations_total[1m]))', legend: 'passivations/s' },
          ],
        },
      ],
    },
    {
      title: 'Failover',
      panels: [
        {
          title: 'Owners lost and gained',
          description: 'Changes of owned shards in a minute: both directions at once are a handoff.',
          queries: [{ expr: 'delta(twinmesh_shards_owned[1m])', legend: '{{instance}}' }],
        },
        {
          title: 'Fenced commits',
          description: 'Above 0: a node believed that it owned a shard, and was refused. Nothing is lost.',
          queries: [{ expr: 'increase(twinmesh_commits_fenced_total[1m])', legend: '{{instance}}' }],
        },
        { title: 'Stands still', max: 1, queries: [{ expr: 'twinmesh_stale', legend: '{{instance}}' }] },
      ],
    },
    {
      title: 'Flow',
      panels: [
        { title: 'Log lag', queries: [{ expr: 'twinmesh_log_lag_readings', legend: '{{instance}}' }] },
        {
          title: 'Readings folded a second',
          stacked: true,
          queries: [{ expr: 'rate(twinmesh_readings_accepted_total[1m])', legend: '{{instance}}' }],
        },
        {
          title: 'Checkpoints a second',
          queries: [{ expr: 'rate(twinmesh_commits_total[1m])', legend: '{{instance}}' }],
        },
      ],
    },
    {
      title: 'Checkpoints',
      panels: [
        {
          title: 'Duration, p99',
          unit: 'ms',
          queries: [{ expr: quantile(0.99, 'twinmesh_cut_duration_ms_bucket', 'instance'), legend: '{{instance}}' }],
        },
        {
          title: 'Entries, mean',
          queries: [
            {
              expr: 'rate(twinmesh_cut_entries_sum[1m]) / (rate(twinmesh_cut_entries_count[1m]) > 0)',
              legend: '{{instance}}',
            },
          ],
        },
        {
          title: 'Ticks and commands a second',
          queries: [
            { expr: 'sum(rate(twinmesh_ticks_total[1m]))', legend: 'ticks' },
            { expr: 'sum(rate(twinmesh_commands_total[1m]))', legend: 'commands' },
          ],
        },
      ],
    },
  ],
};

const rateOf = (name: string, window = '1m') => `max(rate(twinmesh_database_${name}[${window}]))`;

export const DATABASE: Dashboard = {
  uid: 'twinmesh-database',
  title: 'Database performance',
  description: 'PostgreSQL by its own statistics, and what the nodes wait for.',
  tags: ['database'],
  rows: [
    {
      title: 'Load',
      panels: [
        {
          title: 'Transactions a second',
          queries: [
            { expr: rateOf('commits'), legend: 'committed' },
            { expr: rateOf('rollbacks'), legend: 'rolled back' },
          ],
        },
        {
          title: 'Rows a second',
          queries: [
            { expr: rateOf('rows_inserted'), legend: 'inserted' },
            { expr: rateOf('rows_updated'), legend: 'updated' },
            { expr: rateOf('rows_deleted'), legend: 'deleted' },
          ],
        },
        {
          title: 'Connections',
          queries: [
            { expr: 'max(twinmesh_database_connections)', legend: 'open' },
            { expr: 'max(twinmesh_database_connections_max)', legend: 'allowed' },
          ],
        },
      ],
    },
    {
      title: 'Checkpoints',
      panels: [
        {
          title: 'Duration',
          unit: 'ms',
          queries: [0.5, 0.95, 0.99].map((share) => ({
            expr: quantile(share, 'twinmesh_cut_duration_ms_bucket'),
            legend: `p${share * 100}`,
          })),
          thresholds: [100, 500],
        },
        {
          title: 'Entries of one',
          queries: [0.5, 0.95].map((share) => ({
            expr: quantile(share, 'twinmesh_cut_entries_bucket'),
            legend: `p${share * 100}`,
          })),
        },
        {
          title: 'Refused or lost',
          queries: [
            { expr: 'sum(rate(twinmesh_commits_aborted_total[5m]))', legend: 'refused' },
            { expr: 'sum(rate(twinmesh_commits_unknown_total[5m]))', legend: 'outcome lost' },
          ],
        },
      ],
    },
    {
      title: 'Cache and disk',
      panels: [
        {
          title: 'Found in the cache',
          unit: 'percentunit',
          max: 1,
          queries: [
            {
              expr: `${rateOf('blocks_hit', '5m')} / (${rateOf('blocks_hit', '5m')} + ${rateOf('blocks_read', '5m')} > 0)`,
              legend: 'hits',
            },
          ],
        },
        {
          title: 'Size on disk',
          unit: 'bytes',
          queries: [{ expr: 'max(twinmesh_database_bytes)', legend: 'database' }],
        },
        {
          title: 'Signs of trouble',
          queries: [
            { expr: 'max(increase(twinmesh_database_deadlocks[5m]))', legend: 'deadlocks' },
            { expr: 'max(twinmesh_database_dead_rows)', legend: 'dead rows of the ownership tables' },
          ],
        },
        {
          title: 'Temporary files of queries',
          unit: 'Bps',
          queries: [{ expr: rateOf('temporary_bytes', '5m'), legend: 'written' }],
        },
      ],
    },
  ],
};
