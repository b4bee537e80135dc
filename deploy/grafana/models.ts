import type { Dashboard } from './panel.ts';

/** What models do: how much they are asked, how fast they answer, what they find, and whether to believe them. */
const share = (part: string, whole: string) => `(${part} or vector(0)) / clamp_min(${whole}, 1)`;

export const MODELS: Dashboard = {
  uid: 'twinmesh-models',
  title: 'ML performance',
  description: 'Predictions of models: rate, latency, refusals, drift, and what people said of what they found.',
  tags: ['models'],
  from: 'now-6h',
  rows: [
    {
      title: 'Now',
      height: 6,
      panels: [
        {
          title: 'Predictions a second',
          kind: 'stat',
          queries: [{ expr: 'sum(rate(model_prediction_count[1m]))', legend: 'all models' }],
        },
        {
          title: 'Nodes that ask nobody',
          description: 'Five questions in a row had no answer: nobody is asked for a minute. Telemetry goes on.',
          kind: 'stat',
          queries: [{ expr: 'sum(twinmesh_inference_breaker_open)', legend: 'nodes' }],
          thresholds: [1, 2],
        },
        {
          title: 'False positives',
          description: 'Rejected share of the anomalies that somebody has judged.',
          kind: 'gauge',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [{ expr: 'max(false_positive_rate) or vector(0)', legend: 'all' }],
          thresholds: [0.2, 0.5],
        },
        {
          title: 'Largest drift',
          description: 'Population stability index: above 0.1 some, above 0.25 much. From six hours of data on.',
          kind: 'stat',
          queries: [{ expr: 'max(data_drift_score) or vector(0)', legend: 'PSI' }],
          thresholds: [0.1, 0.25],
        },
      ],
    },
    {
      title: 'Asking and answering',
      panels: [
        {
          title: 'Predictions a second by model',
          queries: [
            { expr: 'sum by (model, version) (rate(model_prediction_count[1m]))', legend: '{{model}}@{{version}}' },
          ],
        },
        {
          title: 'Latency of a batch, p99',
          unit: 's',
          queries: [
            {
              expr: 'histogram_quantile(0.99, sum by (le, model) (rate(twinmesh_inference_latency_seconds_bucket[5m])))',
              legend: '{{model}}',
            },
          ],
        },
        {
          title: 'Rows of a batch, p50 and p99',
          queries: [0.5, 0.99].map((quantile) => ({
            expr: `histogram_quantile(${quantile}, sum by (le) (rate(twinmesh_inference_batch_size_bucket[5m])))`,
            legend: `p${quantile * 100}`,
          })),
        },
      ],
    },
    {
      title: 'What went wrong',
      panels: [
        {
          title: 'Rows without a prediction, by reason',
          queries: [
            {
              expr: 'sum by (model, reason) (rate(twinmesh_inference_refused[5m])) or vector(0)',
              legend: '{{model}} {{reason}}',
            },
          ],
        },
        {
          title: 'Questions without an answer, by code',
          queries: [
            {
              expr: 'sum by (code) (rate(twinmesh_inference_failures_total[5m])) or vector(0)',
              legend: '{{code}}',
            },
          ],
        },
        {
          title: 'Share of questions without an answer',
          unit: 'percentunit',
          queries: [
            {
              expr: share(
                'sum(increase(twinmesh_inference_failures_total[1h]))',
                'sum(increase(twinmesh_inference_asked_total[1h]))',
              ),
              legend: 'without',
            },
          ],
        },
      ],
    },
    {
      title: 'Whether to believe them',
      panels: [
        {
          title: 'Drift by model, worst input',
          queries: [{ expr: 'max by (model) (data_drift_score) or vector(0)', legend: '{{model}}' }],
        },
        {
          title: 'Shadow against live, mean difference',
          description: 'A candidate that is asked beside the live version: 0 says the same.',
          queries: [
            {
              expr: 'sum by (model, version) (rate(twinmesh_inference_shadow_difference_sum[1h])) / clamp_min(sum by (model, version) (rate(twinmesh_inference_shadow_difference_count[1h])), 0.000001) or vector(0)',
              legend: '{{model}}@{{version}}',
            },
          ],
        },
        {
          title: 'Rejected share by who found it',
          unit: 'percentunit',
          queries: [
            {
              expr: 'max by (kind, detector, model) (twinmesh_false_positive_rate) or vector(0)',
              legend: '{{kind}} {{detector}} {{model}}',
            },
          ],
        },
      ],
    },
    {
      title: 'What they find',
      panels: [
        {
          title: 'Anomaly score ÷ threshold, mean',
          queries: [
            {
              expr: 'sum(rate(anomaly_score_distribution_sum[15m])) / clamp_min(sum(rate(anomaly_score_distribution_count[15m])), 0.000001) or vector(0)',
              legend: 'mean',
            },
          ],
        },
        {
          title: 'Maintenance predicted, an hour',
          queries: [
            {
              expr: 'sum(increase(twinmesh_events_by_type_total{type="maintenance.predicted"}[1h])) or vector(0)',
              legend: 'events',
            },
          ],
        },
        {
          title: 'Versions that changed',
          queries: [
            { expr: 'sum by (model) (increase(twinmesh_inference_swaps_total[1h])) or vector(0)', legend: '{{model}}' },
          ],
        },
      ],
    },
  ],
};
