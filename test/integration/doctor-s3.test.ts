import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadSettings } from '../../config/settings.ts';
import { examine } from '../../services/doctor/examination.ts';
import { findS3, type S3Server } from '../servers/s3.ts';

/** What `npm run doctor` says of object storage, on a real S3 server. */
const s3 = await findS3();
const folder = mkdtempSync(join(tmpdir(), 'tm-doctor-s3-'));
afterAll(async () => {
  await s3?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const settings = (env: Record<string, string>) => loadSettings({ DATA_DIR: folder, ...env });
const says = (text: RegExp | string) =>
  typeof text === 'string' ? expect.stringContaining(text) : expect.stringMatching(text);

/** A bucket that is shown, and that AWS_ACCESS_KEY_ID may not write in. */
async function startReadOnly() {
  const server = createServer((req, res) => {
    req.resume();
    res.setHeader('content-type', 'application/xml');
    res.statusCode = req.method === 'GET' ? 200 : 403;
    res.end(
      req.method === 'GET'
        ? '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
        : '<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>',
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

describe.skipIf(s3 === null)('object storage', () => {
  const { access, bucketDir } = (s3 ?? { access: {} }) as S3Server;
  const of = (env: Record<string, string> = {}) =>
    examine(
      settings({
        S3_ENDPOINT: access.endpoint,
        S3_BUCKET: access.bucket,
        S3_REGION: access.region,
        AWS_ACCESS_KEY_ID: access.accessKeyId,
        AWS_SECRET_ACCESS_KEY: access.secretAccessKey,
        ...env,
      }),
      ['s3'],
    );
  const left = () =>
    bucketDir !== null && existsSync(join(bucketDir, 'doctor')) ? readdirSync(join(bucketDir, 'doctor')) : [];

  it('lists, takes, hands out and deletes, and nothing of it stays', async () => {
    expect(await of()).toEqual([
      {
        part: 's3',
        level: 'ok',
        says: says(/^127\.0\.0\.1:\d+\/plant lists, takes, hands out and deletes; it answers in \d+ ms$/),
      },
    ]);
    expect(left()).toEqual([]);
    expect(await examine(settings({}), ['s3'])).toEqual([]);
  });

  it('of another bucket, with a wrong key or a wrong secret', async () => {
    expect(await of({ S3_BUCKET: 'nowhere' })).toEqual([
      expect.objectContaining({ level: 'fault', says: says('NoSuchBucket'), remedy: says('S3_BUCKET') }),
    ]);
    expect(await of({ AWS_ACCESS_KEY_ID: 'somebody-else' })).toEqual([
      expect.objectContaining({
        level: 'fault',
        says: says(/InvalidAccessKeyId|XAdminUserNotFound/),
        remedy: says('AWS_ACCESS_KEY_ID'),
      }),
    ]);
    const wrong = await of({ AWS_SECRET_ACCESS_KEY: 'wr0ng-secret' });
    expect(wrong).toEqual([
      expect.objectContaining({
        level: 'fault',
        says: says('SignatureDoesNotMatch'),
        remedy: says('AWS_SECRET_ACCESS_KEY'),
      }),
    ]);
    expect(JSON.stringify(wrong)).not.toMatch(new RegExp(`wr0ng|${access.accessKeyId}`));
  });

  it('that may be read and not written', async () => {
    const readOnly = await startReadOnly();
    try {
      expect(await of({ S3_ENDPOINT: readOnly.endpoint })).toEqual([
        expect.objectContaining({
          level: 'fault',
          says: says('takes no object: AccessDenied'),
          remedy: says('to put'),
        }),
      ]);
    } finally {
      await readOnly.stop();
    }
  });

  it('that is not there', async () => {
    expect(await of({ S3_ENDPOINT: 'http://127.0.0.1:1' })).toEqual([
      expect.objectContaining({ level: 'fault', says: says('ECONNREFUSED'), remedy: says('S3_ENDPOINT') }),
    ]);
  });
});
