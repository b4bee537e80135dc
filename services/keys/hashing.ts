import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';

/**
 * Keys look like `tm_<id>_<secret>`: the id finds the row, the secret proves it.
 *
 * The secret is 256 random bits, and only its SHA-256 is stored. A slow hash (scrypt, argon2) protects passwords,
 * which can be guessed one by one; among 2^256 secrets there is nothing to guess, so that a slow hash would only slow
 * down every request of ours.
 */
export interface MintedKey {
  id: string;
  /** Shown once, stored nowhere. */
  key: string;
  hash: string;
}

const PATTERN = /^tm_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

export function mintKey(id: string = newId()): MintedKey {
  const secret = randomBytes(32).toString('base64url');
  return { id, key: `tm_${id}_${secret}`, hash: sha256(secret).toString('hex') };
}

function newId(): string {
  let id = '';
  for (let i = 0; i < 12; i++) id += ALPHABET[randomInt(ALPHABET.length)];
  return id;
}

/** Splits what was presented; null where it is no key of ours. */
export function parseKey(presented: string): { id: string; secret: string } | null {
  const match = PATTERN.exec(presented);
  return match ? { id: match[1], secret: match[2] } : null;
}

/** Whether the secret has this hash, in time that does not depend on where they differ. */
export function provesHash(secret: string, hash: string): boolean {
  const stored = Buffer.from(hash, 'hex');
  return stored.length === 32 && timingSafeEqual(sha256(secret), stored);
}

export function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
