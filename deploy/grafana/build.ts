import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BATTERY, BUSINESS, DATA_QUALITY, MQTT } from './fleet.ts';
import { DATABASE, MESH } from './mesh.ts';
import { MODELS } from './models.ts';
import { type Dashboard, dashboardJson } from './panel.ts';
import { SLO, SYSTEM_HEALTH } from './plant.ts';

/**
 * `npm run dashboards`: writes dashboards/*.json, which Grafana reads. They are committed; a test holds them equal to this.
 */
export const DASHBOARDS: Readonly<Record<string, Dashboard>> = {
  'system-health': SYSTEM_HEALTH,
  slo: SLO,
  business: BUSINESS,
  'data-quality': DATA_QUALITY,
  mqtt: MQTT,
  database: DATABASE,
  battery: BATTERY,
  mesh: MESH,
  models: MODELS,
};

/** Files by name, as they are committed. */
export function dashboardFiles(): Map<string, string> {
  return new Map(
    Object.entries(DASHBOARDS).map(([name, dashboard]) => [
      `${name}.json`,
      `${JSON.stringify(dashboardJson(dashboard), null, 1)}\n`,
    ]),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = fileURLToPath(new URL('dashboards', import.meta.url));
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of dashboardFiles()) writeFileSync(join(folder, name), text);
}
