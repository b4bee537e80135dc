import { openObjects } from '../../mixins/objects.ts';
import type { Parts } from '../parts.ts';
import { Archive } from './archived-readings.ts';

/**
 * The archive of a node, to read in. Also where none is written now: what was archived before stays readable, and where
 * retention has dropped nothing it is never asked.
 */
export function openArchive({ sql, settings }: Pick<Parts, 'sql' | 'settings'>): Archive {
  return new Archive(sql, openObjects(settings));
}
