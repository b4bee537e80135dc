import { Readable } from 'node:stream';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import { checkKey, noObject, type ObjectStore, type ObjectSum, type StoredObject, Summing } from './object-store.ts';

export interface S3Access {
  endpoint: string;
  bucket: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
}

/** Parts of an upload; two are in memory. S3 takes 10,000 of them: 80 GB an object. */
const PART_BYTES = 8 << 20;
const DELETE_AT_ONCE = 1_000;

/** Objects in a bucket, which has to be there. Paths carry the bucket, as MinIO and others want it. */
export class ObjectS3 implements ObjectStore {
  readonly place: string;
  readonly #client: S3Client;
  readonly #bucket: string;

  constructor(access: S3Access) {
    const { endpoint, bucket, region, accessKeyId, secretAccessKey } = access;
    this.#bucket = bucket;
    this.place = `${new URL(endpoint).host}/${bucket}`;
    this.#client = new S3Client({
      endpoint,
      region,
      credentials: { accessKeyId, secretAccessKey },
      forcePathStyle: true,
      maxAttempts: 4,
      // Not every server knows the newer checksums; TLS and our own SHA-256 are there all the same.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { connectionTimeout: 5_000, requestTimeout: 60_000 },
    });
  }

  async put(key: string, body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<ObjectSum> {
    checkKey(key);
    const summing = new Summing();
    let fault: unknown;
    const source = async function* () {
      try {
        yield* summing.pass(body);
      } catch (error) {
        fault = error;
        throw error;
      }
    };
    const upload = new Upload({
      client: this.#client,
      params: { Bucket: this.#bucket, Key: key, Body: Readable.from(source(), { objectMode: true, highWaterMark: 1 }) },
      partSize: PART_BYTES,
      queueSize: 1,
    });
    try {
      await upload.done();
    } catch (error) {
      throw fault ?? this.#faultOf(error, key);
    }
    return summing.sum;
  }

  async read(key: string, start: number, end: number): Promise<Uint8Array> {
    checkKey(key);
    if (end <= start) return new Uint8Array(0);
    try {
      const { Body: body } = await this.#client.send(
        new GetObjectCommand({ Bucket: this.#bucket, Key: key, Range: `bytes=${start}-${end - 1}` }),
      );
      return body === undefined ? new Uint8Array(0) : await body.transformToByteArray();
    } catch (error) {
      // A range that starts behind the end.
      if (statusOf(error) === 416) return new Uint8Array(0);
      throw this.#faultOf(error, key);
    }
  }

  async *stream(key: string): AsyncGenerator<Uint8Array, void, void> {
    checkKey(key);
    try {
      const { Body: body } = await this.#client.send(new GetObjectCommand({ Bucket: this.#bucket, Key: key }));
      if (body !== undefined) yield* body as unknown as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw this.#faultOf(error, key);
    }
  }

  async sizeOf(key: string): Promise<number | null> {
    checkKey(key);
    try {
      const { ContentLength: bytes } = await this.#client.send(
        new HeadObjectCommand({ Bucket: this.#bucket, Key: key }),
      );
      return bytes ?? 0;
    } catch (error) {
      const fault = this.#faultOf(error, key);
      if (fault.code === 'not_found') return null;
      throw fault;
    }
  }

  async *list(prefix: string): AsyncGenerator<StoredObject, void, void> {
    checkKey(prefix);
    for (let token: string | undefined; ; ) {
      const page = await this.#client
        .send(new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: `${prefix}/`, ContinuationToken: token }))
        .catch((error: unknown) => {
          throw this.#faultOf(error, prefix);
        });
      for (const { Key: key, Size: bytes } of page.Contents ?? [])
        if (key !== undefined && !key.endsWith('/')) yield { key, bytes: bytes ?? 0 };
      token = page.NextContinuationToken;
      if (!page.IsTruncated || token === undefined) return;
    }
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) checkKey(key);
    for (let i = 0; i < keys.length; i += DELETE_AT_ONCE) {
      const some = keys.slice(i, i + DELETE_AT_ONCE);
      const { Errors: faults = [] } = await this.#client
        .send(
          new DeleteObjectsCommand({
            Bucket: this.#bucket,
            Delete: { Objects: some.map((key) => ({ Key: key })), Quiet: true },
          }),
        )
        .catch((error: unknown) => {
          throw this.#faultOf(error, some[0]);
        });
      const fault = faults.find(({ Code: code }) => code !== 'NoSuchKey');
      if (fault !== undefined)
        throw new TwinmeshError('unavailable', `${this.place} did not delete ${fault.Key}: ${fault.Message}`);
    }
  }

  close(): void {
    this.#client.destroy();
  }

  #faultOf(error: unknown, key: string): TwinmeshError {
    if (error instanceof TwinmeshError) return error;
    const { name } = error as { name?: string };
    // A missing bucket is a fault of the settings, not of the key.
    if (name === 'NoSuchKey' || (statusOf(error) === 404 && name !== 'NoSuchBucket'))
      return noObject(this.place, key, error);
    const message = `S3 at ${this.place} refuses or cannot be reached: ${name ?? ''} ${messageOf(error)}`;
    return new TwinmeshError('unavailable', message, undefined, { cause: error });
  }
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}
