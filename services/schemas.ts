import { readdirSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { ServiceSchema } from 'moleculer';

/**
 * Every service of this version, whether this node runs it or another does. The gateway reads from them what there is to
 * expose: what comes over the mesh about an action has lost its patterns and functions.
 */
const FOLDER = fileURLToPath(new URL('.', import.meta.url));
let loaded: Promise<ServiceSchema[]> | undefined;

export function serviceSchemas(): Promise<ServiceSchema[]> {
  loaded ??= Promise.all(
    serviceFiles().map(async (file) => {
      const { default: schema } = (await import(pathToFileURL(file).href)) as { default: ServiceSchema };
      return schema;
    }),
  );
  return loaded;
}

/** A service says in `metadata.role` which role of a node runs it; one without runs on every node. */
export function isOfRoles(schema: ServiceSchema, roles: readonly string[]): boolean {
  const role = (schema.metadata as { role?: string } | undefined)?.role;
  return role === undefined || roles.includes(role);
}

function serviceFiles(): string[] {
  return readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.service.ts'))
    .sort()
    .map((file) => `${FOLDER}/${file}`);
}
