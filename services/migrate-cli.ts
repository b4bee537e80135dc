import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { loadKinds } from '../actors/runtime/kind-registry.ts';
import { Pg } from '../actors/store/pg.ts';
import { PostgresStore } from '../actors/store/postgres.ts';
import { SettingsError } from '../config/settings.ts';
import { faultText, isMendable } from './command-line.ts';
import { processSettings } from './config-file.ts';
import { databaseUrlOf } from './parts.ts';

/** A table of years that moves into chunks takes its time. */
const STATEMENT_MS = 24 * 3_600_000;

/**
 * `npm run migrate`: brings the database of DATABASE_URL to this version and ends, so that nodes can run as a role
 * without the right to change the schema. Safe to run again, and while nodes of the version before run.
 *
 *     npm run migrate -- [--grants FILE]      FILE: SQL that runs after it, such as deploy/postgres/grants.sql
 */
async function main(): Promise<void> {
  const { grants } = optionsOf(process.argv.slice(2));
  const settings = processSettings();
  if (settings.databaseUrl === null) {
    throw new SettingsError(['DATABASE_URL is missing: the embedded database is migrated by the node that opens it.']);
  }
  const kinds = await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]);
  const sql = await Pg.open({
    url: databaseUrlOf(settings),
    applicationName: 'twinmesh migrate',
    statementTimeoutMs: STATEMENT_MS,
  });
  try {
    await new PostgresStore(sql).open(kinds.all(), settings.shards);
    if (grants !== undefined) await sql.exec(textOf(grants));
    const [{ version }] = await sql.query<{ version: number }>(
      `select (value->>'version')::int as version from settings where name = 'schema'`,
    );
    process.stdout.write(`The database has schema version ${version}, ${settings.shards} shards.\n`);
  } finally {
    await sql.close();
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new TwinmeshError('bad_request', `--grants ${file}: ${messageOf(error)}`);
  }
}

function optionsOf(args: string[]): { grants?: string } {
  try {
    return parseArgs({ args, options: { grants: { type: 'string' } }, strict: true }).values;
  } catch (error) {
    throw new SettingsError([messageOf(error).split('.')[0]]);
  }
}

main().catch((error) => {
  process.stderr.write(`migrate: ${faultText(error)}\n`);
  process.exit(isMendable(error) ? 2 : 1);
});
