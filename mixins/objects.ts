import type { Settings } from '../config/settings.ts';
import { ObjectFolder } from './object-folder.ts';
import { ObjectS3 } from './object-s3.ts';
import type { ObjectStore } from './object-store.ts';

type Place = Pick<
  Settings,
  's3Endpoint' | 's3Bucket' | 's3Region' | 'awsAccessKeyId' | 'awsSecretAccessKey' | 'archiveDir' | 'dataDir'
>;

/**
 * Object storage as the settings say: S3, else a folder. Keys begin with what they belong to: `archive/`, `models/`.
 * Nothing is asked or made before the first use.
 */
export function openObjects(settings: Place): ObjectStore {
  if (settings.s3Endpoint === null) return new ObjectFolder(settings.archiveDir ?? settings.dataDir);
  return new ObjectS3({
    endpoint: settings.s3Endpoint,
    // That these are there is a relation between the settings (config/limits.ts).
    bucket: settings.s3Bucket as string,
    region: settings.s3Region,
    accessKeyId: settings.awsAccessKeyId as string,
    secretAccessKey: settings.awsSecretAccessKey as string,
  });
}
