import pg from 'pg';

/**
 * Who has committed what, written down by the database itself in a table of the test: a trigger on `shards` notes each
 * change with the session that made it. The product knows nothing of it.
 */
const SCHEMA = `
create table if not exists chaos_commits (
  no bigserial primary key, at timestamptz not null default clock_timestamp(), session text not null, what text not null,
  shard int not null, owner text, epoch bigint not null, commit_no bigint not null, position bigint not null
);
create index if not exists chaos_commits_at on chaos_commits (at) include (shard);
create or replace function chaos_audit() returns trigger language plpgsql as $$
begin
  insert into chaos_commits (session, what, shard, owner, epoch, commit_no, position)
  values (current_setting('application_name'),
    case when new.commit_no <> old.commit_no then 'commit' when new.epoch <> old.epoch then 'claim' else 'release' end,
    new.shard, new.owner, new.epoch, new.commit_no, new.position);
  return null;
end $$;
create or replace trigger chaos_audit after update on shards for each row execute function chaos_audit();
`;

/** A view of the database that outlives its restarts. */
export class Audit {
  readonly #url: string;
  #client: pg.Client | null = null;

  constructor(url: string) {
    this.#url = url;
  }

  async install(): Promise<void> {
    await this.query(SCHEMA);
  }

  /** Throws while the database is away; the next call connects anew. */
  async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    this.#client ??= await connected(this.#url);
    const client = this.#client;
    try {
      return (await client.query<Row>(text, values)).rows;
    } catch (error) {
      if (this.#client === client) this.#client = null;
      void client.end().catch(() => undefined);
      throw error;
    }
  }

  /** Shards that have committed since then, each with the time of its first commit (ms). */
  async progress(sinceMs: number): Promise<Map<number, number>> {
    const rows = await this.query<{ shard: number; at: Date }>(
      `select shard, min(at) as at from chaos_commits where at > $1 and what = 'commit' group by shard`,
      [new Date(sinceMs)],
    );
    return new Map(rows.map(({ shard, at }) => [shard, at.getTime()]));
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => undefined);
    this.#client = null;
  }
}

export async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'chaos', connectionTimeoutMillis: 5_000 });
  // Its end shows at the next query.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
