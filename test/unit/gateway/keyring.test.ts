import { describe, expect, it } from 'vitest';
import { type Sql, SqlError } from '../../../actors/store/sql.ts';
import { mintKey, parseKey, provesHash } from '../../../services/keys/hashing.ts';
import { KeyRing } from '../../../services/keys/keyring.ts';
import { FakeClock, settle } from './fake-clock.ts';

/** The table `keys` as far as the ring asks for it; `hold` lets an answer wait after it was made. */
class FakeKeys implements Sql {
  rows = new Map<string, { hash: string; role: string }>();
  touched: string[][] = [];
  asked = 0;
  hold: Promise<void> | undefined;
  down = false;

  async query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    if (text.startsWith('update')) {
      this.touched.push([...(params[0] as string[])]);
      return [];
    }
    this.asked++;
    if (this.down) throw new SqlError('not_sent', 'away');
    const id = params[0] as string;
    const row = this.rows.get(id);
    const answer = row ? [{ id, name: id, role: row.role, twinId: null, gateway: false, hash: row.hash }] : [];
    await this.hold;
    return answer as Row[];
  }

  async exec(): Promise<void> {}
  async close(): Promise<void> {}
}

function setup() {
  const sql = new FakeKeys();
  const clock = new FakeClock();
  const ring = new KeyRing(sql, { clock, ttlMs: 1000, graceMs: 60_000, touchAfterMs: 100, maxEntries: 3 });
  const make = () => {
    const minted = mintKey();
    sql.rows.set(minted.id, { hash: minted.hash, role: 'viewer' });
    return minted;
  };
  return { sql, clock, ring, make };
}

describe('keys', () => {
  it('are an id and 256 random bits, of which only the digest is kept', () => {
    const a = mintKey();
    const b = mintKey();
    expect(a.key).toMatch(/^tm_[a-z0-9]{12}_[A-Za-z0-9_-]{43}$/);
    expect(a.key).not.toBe(b.key);
    const parsed = parseKey(a.key);
    expect(parsed?.id).toBe(a.id);
    expect(Buffer.from(parsed?.secret ?? '', 'base64url')).toHaveLength(32);
    expect(a.hash).toMatch(/^[0-9a-f]{64}$/);
    expect(a.hash).not.toContain(parsed?.secret);
    expect(provesHash(parsed?.secret ?? '', a.hash)).toBe(true);
    expect(provesHash(parsed?.secret ?? '', b.hash)).toBe(false);
    expect(provesHash('x', 'not a hash')).toBe(false);
  });

  it.each([[''], ['tm_'], ['tm_abc_def'], ["tm_aaaaaaaaaaaa_' or 1=1 --"], ['x'.repeat(5000)]])(
    'are not %.30s',
    (text) => {
      expect(parseKey(text)).toBeNull();
    },
  );
});

describe('KeyRing', () => {
  it('knows a key, a wrong secret and a stranger', async () => {
    const { ring, make, sql } = setup();
    const { key, id } = make();
    expect(await ring.authenticate(key)).toEqual({ keyId: id, name: id, role: 'viewer' });
    expect(await ring.authenticate(mintKey(id).key)).toBeNull();
    expect(await ring.authenticate(mintKey().key)).toBeNull();
    const asked = sql.asked;
    expect(await ring.authenticate('garbage')).toBeNull();
    expect(sql.asked).toBe(asked);
  });

  it('remembers for a while', async () => {
    const { ring, make, sql, clock } = setup();
    const { key } = make();
    await ring.authenticate(key);
    await ring.authenticate(key);
    expect(sql.asked).toBe(1);
    clock.advance(1001);
    await ring.authenticate(key);
    expect(sql.asked).toBe(2);
  });

  it('forgets at once, also while the store is still answering', async () => {
    const { ring, make, sql } = setup();
    const { key, id } = make();
    let release: () => void = () => {};
    sql.hold = new Promise((resolve) => {
      release = resolve;
    });
    const asking = ring.authenticate(key);
    await settle();
    // Revoked after the store has looked, before its answer is here.
    sql.rows.delete(id);
    ring.forget(id);
    release();
    expect(await asking).toBeNull();
    expect(await ring.authenticate(key)).toBeNull();
  });

  it('says whether a key has been good before, also after a while, but not once it is forgotten', async () => {
    const { ring, make, clock, sql } = setup();
    const { key, id } = make();
    expect(ring.knows(key)).toBe(false);
    await ring.authenticate(key);
    clock.advance(60_000);
    expect(ring.knows(key)).toBe(true);
    expect(ring.knows(mintKey(id).key)).toBe(false);
    ring.forget(id);
    expect(ring.knows(key)).toBe(false);
    expect(sql.asked).toBe(1);
  });

  it('lets a key that was good live on while the store is away, for a while, and no other', async () => {
    const { ring, make, sql, clock } = setup();
    const { key, id } = make();
    const caller = await ring.authenticate(key);
    sql.down = true;
    clock.advance(1001);
    expect(await ring.authenticate(key)).toEqual(caller);
    const asked = sql.asked;
    expect(await ring.authenticate(key)).toEqual(caller);
    expect(sql.asked).toBe(asked);
    await expect(ring.authenticate(make().key)).rejects.toMatchObject({ code: 'store_down' });
    await expect(ring.authenticate(mintKey(id).key)).rejects.toMatchObject({ code: 'store_down' });
    clock.advance(60_000);
    await expect(ring.authenticate(key)).rejects.toMatchObject({ code: 'store_down' });
    sql.down = false;
    expect(await ring.authenticate(key)).toEqual(caller);
    sql.down = true;
    ring.forget(id);
    await expect(ring.authenticate(key)).rejects.toMatchObject({ code: 'store_down' });
  });

  it('waits only so long for a store that hangs, and believes a revocation of that time', async () => {
    const { ring, make, sql, clock } = setup();
    const { key, id } = make();
    const caller = await ring.authenticate(key);
    clock.advance(1001);
    sql.hold = new Promise(() => undefined);
    const asking = ring.authenticate(key);
    clock.advance(1000);
    expect(await asking).toEqual(caller);
    clock.advance(5001);
    const again = expect(ring.authenticate(key)).rejects.toMatchObject({ code: 'store_down' });
    ring.forget(id);
    clock.advance(1000);
    await again;
  });

  it('forgets a rotated key', async () => {
    const { ring, make, sql } = setup();
    const { key, id } = make();
    await ring.authenticate(key);
    const next = mintKey(id);
    sql.rows.set(id, { hash: next.hash, role: 'viewer' });
    ring.forget(id);
    expect(await ring.authenticate(key)).toBeNull();
    expect(await ring.authenticate(next.key)).not.toBeNull();
  });

  it('remembers no more than it may', async () => {
    const { ring, make, sql } = setup();
    const keys = Array.from({ length: 5 }, () => make().key);
    for (const key of keys) await ring.authenticate(key);
    await ring.authenticate(keys[4]);
    expect(sql.asked).toBe(5);
    await ring.authenticate(keys[0]);
    expect(sql.asked).toBe(6);
  });

  it('writes last uses together and late', async () => {
    const { ring, make, sql, clock } = setup();
    const a = make();
    const b = make();
    await ring.authenticate(a.key);
    await ring.authenticate(b.key);
    await ring.authenticate(a.key);
    expect(sql.touched).toEqual([]);
    clock.advance(100);
    await settle();
    expect(sql.touched).toEqual([[a.id, b.id]]);
  });
});
