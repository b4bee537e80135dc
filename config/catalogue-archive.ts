import { hidden, integer, text, url } from './setting.ts';

/** Settings of the cold archive and of object storage. */
export const ARCHIVE = {
  ARCHIVE_AFTER_DAYS: integer(
    'days',
    0,
    36_500,
    'archive',
    0,
    'Days of history that are whole and this old are written to the archive as Parquet, before retention drops them. 0: none are.',
  ),
  ARCHIVE_KEEP_DAYS: integer('days', 0, 36_500, 'archive', 365, 'Archived days older than this are deleted. 0: never.'),
  ARCHIVE_DIR: text(
    'a folder',
    /^[^\0]+$/,
    'archive',
    null,
    'Folder of the archive where there is no S3_ENDPOINT. Left out, archive in DATA_DIR.',
  ),
  S3_ENDPOINT: url(
    ['http:', 'https:'],
    'archive',
    null,
    'S3 (AWS, MinIO and others) for the archive, in place of a folder, and for trained models, which other nodes fetch from there. Needs S3_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
  ),
  S3_BUCKET: text(
    'a bucket name',
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
    'archive',
    null,
    'Bucket; it has to be there.',
  ),
  S3_REGION: text('a region', /^[a-z0-9-]{1,40}$/, 'archive', 'us-east-1', 'Region that requests are signed for.'),
  AWS_ACCESS_KEY_ID: text('text', /^\S{1,256}$/, 'archive', null, 'Access key for S3_ENDPOINT.'),
  AWS_SECRET_ACCESS_KEY: hidden(text('text', /^\S{1,256}$/, 'archive', null, 'Secret key for S3_ENDPOINT.')),
} as const;
