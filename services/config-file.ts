import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { loadSettings, type Settings } from '../config/settings.ts';

/** Settings of this process: its environment over twinmesh.config.json of the folder it was started in. Throws SettingsError. */
export function processSettings(folder = process.cwd(), env: Readonly<NodeJS.ProcessEnv> = process.env): Settings {
  return loadSettings(env, configFileText(folder), {
    hostname: hostname(),
    readSecret: (path) => readFileSync(resolve(folder, path), 'utf8'),
  });
}

function configFileText(folder: string): string | undefined {
  try {
    return readFileSync(resolve(folder, 'twinmesh.config.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
