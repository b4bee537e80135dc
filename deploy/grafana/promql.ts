/** Expressions that several dashboards share. */
export const HTTP = 'twinmesh_http_request_duration_ms';

/** A quantile of a histogram over the window, by the labels of `by`. */
export const quantile = (share: number, series: string, by = '', window = '5m') =>
  `histogram_quantile(${share}, sum by (le${by === '' ? '' : `, ${by}`}) (rate(${series}[${window}])))`;
