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
      title: 'Log',
      panels: [
        {
          title: 'Messages behind',
          description: 'Messages of the log that the owner of their shard has not taken.',
          queries: [{ expr: 'twinmesh_log_lag_messages', legend: '{{instance}}' }],
        },
        {
          title: 'Messages a second',
          queries: [
            { expr: 'sum(rate(twinmesh_log_published_total[1m]))', legend: 'published' },
            { expr: 'sum(rate(twinmesh_log_fetched_total[1m]))', legend: 'fetched' },
            { expr: 'sum(rate(twinmesh_log_duplicates_total[1m]))', legend: 'recognised as duplicates' },
          ],
        },
        {
          title: 'Connected to NATS',
          max: 1,
          queries: [{ expr: 'twinmesh_nats_connected', legend: '{{instance}}' }],
        },
        {
          title: 'Signs of trouble',
          queries: [
            { expr: 'sum(increase(twinmesh_log_stalls_total[5m]))', legend: 'consumers that stood still' },
            { expr: 'sum(increase(twinmesh_log_gaps_total[5m]))', legend: 'deliveries missing, read anew' },
            { expr: 'sum(increase(twinmesh_log_undecodable_total[5m]))', legend: 'messages unreadable' },
            { expr: 'sum(increase(twinmesh_log_reconnects_total[5m]))', legend: 'connections lost' },
          ],
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
      title: 'Pools of the nodes',
      panels: [
        {
          title: 'Connections in use',
          queries: [
            {
              expr: 'sum by (instance, pool) (twinmesh_database_pool_connections{state="active"})',
              legend: '{{instance}} {{pool}}',
            },
          ],
        },
        {
          title: 'Statements that wait for one',
          queries: [{ expr: 'twinmesh_database_pool_waiting', legend: '{{instance}} {{pool}}' }],
        },
        {
          title: 'Statements, p95',
          unit: 'ms',
          queries: [
            {
              expr: quantile(0.95, 'twinmesh_database_statement_duration_ms_bucket', 'operation'),
              legend: '{{operation}}',
            },
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
