import { randomBytes } from 'node:crypto';
import { messageOf } from '../../actors/protocol/errors.ts';
import type { ObjectStore } from '../../mixins/object-store.ts';
import { openObjects } from '../../mixins/objects.ts';
import { type Check, isLoopback, type Tell } from './check.ts';

/**
 * Object storage: there, lets us in, and the bucket can be listed, written, read and deleted in. It does what the archive does,
 * with a small object of its own under `doctor/`, which it takes away again.
 */
const STORAGE = 'docs/archive.md says what credentials need; the archive and trained models wait until it is mended.';

export const objects: Check = {
  part: 's3',
  applies: ({ s3Endpoint }) => s3Endpoint !== null,
  async look({ settings }, tell) {
    const store = openObjects(settings);
    const told = secretsOut(tell, [settings.awsSecretAccessKey, settings.awsAccessKeyId]);
    try {
      await examineStore(store, told);
      if (settings.s3Endpoint?.startsWith('http:') && !isLoopback(settings.s3Endpoint))
        tell.warning('readings go over the network as they are', 'Use https:// in S3_ENDPOINT.');
    } finally {
      store.close();
    }
  },
};

/** What is asked of the bucket, in order: what fails first says most. */
async function examineStore(store: ObjectStore, tell: Tell): Promise<void> {
  const key = `doctor/${randomBytes(8).toString('hex')}`;
  const content = Buffer.from(key);
  const startedAt = performance.now();
  try {
    // one is enough to see that they are shown
    for await (const _ of store.list('archive')) break;
  } catch (error) {
    tell.fault(`${store.place}: ${saidOf(error)}`, remedyOf(error, 'list'));
    return;
  }
  const roundTripMs = performance.now() - startedAt;
  try {
    await store.put(key, [content]);
  } catch (error) {
    tell.fault(`${store.place} takes no object: ${saidOf(error)}`, remedyOf(error, 'put'));
    return;
  }
  let isSame = false;
  try {
    isSame = Buffer.from(await store.read(key, 0, content.length + 1)).equals(content);
    if (!isSame) tell.fault(`${store.place} answers another object than was written`, `Look at the server. ${STORAGE}`);
  } catch (error) {
    tell.fault(`${store.place} does not hand out what was written: ${saidOf(error)}`, remedyOf(error, 'get'));
  }
  try {
    await store.remove([key]);
  } catch (error) {
    tell.fault(`${store.place} does not delete ${key}: ${saidOf(error)}`, remedyOf(error, 'delete'));
    return;
  }
  if (isSame) tell.ok(`${store.place} lists, takes, hands out and deletes; it answers in ${roundTripMs.toFixed(0)} ms`);
}

/** The name that S3 gives the fault, where it was S3 that answered. */
function nameOf(error: unknown): string {
  const { name } = ((error as Error).cause ?? error) as { name?: unknown };
  return typeof name === 'string' ? name : '';
}

/** Of its answer; undefined where there was none. */
function statusOf(error: unknown): number | undefined {
  const { $metadata: about } = ((error as Error).cause ?? error) as { $metadata?: { httpStatusCode?: number } };
  return about?.httpStatusCode;
}

function saidOf(error: unknown): string {
  const { cause } = error as Error;
  const name = nameOf(error);
  const said = messageOf(cause ?? error);
  return name === '' || name === 'Error' || name === 'TwinmeshError' ? said : `${name}: ${said}`;
}

function remedyOf(error: unknown, right: 'list' | 'put' | 'get' | 'delete'): string {
  switch (nameOf(error)) {
    case 'NoSuchBucket':
      return 'Make the bucket, or correct S3_BUCKET.';
    case 'InvalidAccessKeyId':
    // as the Versity gateway says it
    case 'XAdminUserNotFound':
      return 'Correct AWS_ACCESS_KEY_ID: the server does not know it.';
    case 'SignatureDoesNotMatch':
      return 'Correct AWS_SECRET_ACCESS_KEY, which is not that of AWS_ACCESS_KEY_ID.';
    case 'RequestTimeTooSkewed':
      return 'Set the clock of this machine (NTP): the server takes no request of another time.';
    case 'AuthorizationHeaderMalformed':
    case 'PermanentRedirect':
      return 'Correct S3_REGION and S3_ENDPOINT: the bucket is of another region.';
    case 'AccessDenied':
      return `Allow AWS_ACCESS_KEY_ID to ${right} in this bucket (deploy/minio/policy.json shows a policy). ${STORAGE}`;
    default:
      return statusOf(error) === undefined
        ? `Start it, or correct S3_ENDPOINT. ${STORAGE}`
        : `It answers and refuses: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, S3_BUCKET and S3_REGION. ${STORAGE}`;
  }
}

/** Servers repeat what they were sent. */
function secretsOut(tell: Tell, secrets: readonly (string | null)[]): Tell {
  const clean = (text: string) =>
    secrets.reduce<string>((out, secret) => (secret ? out.replaceAll(secret, '***') : out), text);
  return {
    ok: (says) => tell.ok(clean(says)),
    warning: (says, remedy) => tell.warning(clean(says), remedy),
    fault: (says, remedy) => tell.fault(clean(says), remedy),
  };
}
