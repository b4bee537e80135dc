import { TwinmeshError } from '../../protocol/errors.ts';
import { METRIC_PATTERN } from '../../protocol/twin-id.ts';
import type { Binder, CursorKeyType } from './page.ts';

/**
 * The fields of a twin that filters and sorts may name, and what each is in SQL. The table is `twins t`. Names that a
 * caller chose (metrics, attributes) become parameters, never text of the statement.
 */
export type FieldType = 'text' | 'number' | 'boolean' | 'time' | 'json';

export interface TwinField {
  type: FieldType;
  /** Whether a twin may be without it. */
  nullable: boolean;
  /** The expression; json fields answer jsonb, others their own type. */
  sql(binder: Binder): string;
  /** Whether the twin has it, as a condition that is never null. */
  exists(binder: Binder): string;
}

function column(type: FieldType, name: string, nullable = false): TwinField {
  return { type, nullable, sql: () => name, exists: () => (nullable ? `${name} is not null` : 'true') };
}

const COLUMNS: Record<string, TwinField> = {
  twinId: column('text', 't.twin_id'),
  kind: column('text', 't.kind'),
  id: column('text', 't.id'),
  health: column('text', 't.health'),
  online: column('boolean', 't.online'),
  retired: column('boolean', 't.retired'),
  alerts: column('number', 't.alerts'),
  revision: column('number', 't.revision'),
  at: column('time', 't.at', true),
  receivedAt: column('time', 't.received_at'),
};

const MAX_ATTRIBUTE_LENGTH = 128;

/** The field of that name, or null where there is none. */
export function twinField(name: string): TwinField | null {
  if (Object.hasOwn(COLUMNS, name)) return COLUMNS[name];
  const m = /^(reported|attributes)[./](.+)$/s.exec(name);
  if (m === null) return null;
  return m[1] === 'reported' ? reportedField(m[2]) : attributeField(m[2]);
}

/** The runtime reports finite numbers only. */
function reportedField(metric: string): TwinField | null {
  if (!METRIC_PATTERN.test(metric)) return null;
  const text = (binder: Binder) => `(t.reported->>${binder.add(metric, '::text')})`;
  return {
    type: 'number',
    nullable: true,
    sql: (binder) => `${text(binder)}::float8`,
    exists: (binder) => `(${text(binder)} is not null)`,
  };
}

function attributeField(name: string): TwinField | null {
  if (name.length > MAX_ATTRIBUTE_LENGTH || name.includes('\0') || !name.isWellFormed()) return null;
  return {
    type: 'json',
    nullable: true,
    sql: (binder) => `(t.attributes->${binder.add(name, '::text')})`,
    exists: (binder) => `(t.attributes ? ${binder.add(name, '::text')})`,
  };
}

/** How the value of a sort key travels in a cursor. */
export function cursorType(field: TwinField): CursorKeyType {
  switch (field.type) {
    case 'json':
      return 'json?';
    case 'text':
    case 'boolean':
      return field.type;
    case 'number':
      return field.nullable ? 'number?' : 'number';
    case 'time':
      return field.nullable ? 'time?' : 'time';
  }
}

export interface SortKey {
  name: string;
  field: TwinField;
  descending: boolean;
}

const MAX_SORT_KEYS = 4;

/** `+field,-field`: a leading minus means descending. Throws `bad_request`. */
export function parseSort(sort: string): SortKey[] {
  const parts = sort.split(',');
  if (parts.length > MAX_SORT_KEYS) throw new TwinmeshError('bad_request', `sort: at most ${MAX_SORT_KEYS} fields.`);
  const seen = new Set<string>();
  return parts.map((part) => {
    // '+' arrives as a space where the caller did not encode it.
    const m = /^\s*([+-]?)(\S+)\s*$/.exec(part);
    const name = m?.[2].replace('/', '.') ?? '';
    const field = twinField(name);
    if (m === null || field === null) {
      throw new TwinmeshError('bad_request', `sort: there is no field "${part.trim().slice(0, 60)}".`);
    }
    if (seen.has(name)) throw new TwinmeshError('bad_request', `sort: "${name.slice(0, 60)}" is named twice.`);
    seen.add(name);
    return { name, field, descending: m[1] === '-' };
  });
}
