/** Faults of a value against a JSON Schema, for the keywords that the OpenAPI document uses; an unknown keyword is a fault too. */
type Schema = Record<string, unknown>;

const KNOWN = new Set([
  '$ref',
  'type',
  'enum',
  'const',
  'required',
  'properties',
  'additionalProperties',
  'items',
  'anyOf',
  'oneOf',
  'allOf',
  'discriminator',
  'x-unit',
  'format',
  'description',
  'default',
  'examples',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'pattern',
  'uniqueItems',
  'title',
  'nullable',
]);

export function faultsOf(value: unknown, schema: Schema, root: Schema, at = '$'): string[] {
  const faults: string[] = [];
  const fault = (what: string) => faults.push(`${at}: ${what}`);
  for (const keyword of Object.keys(schema)) if (!KNOWN.has(keyword)) fault(`unknown keyword ${keyword}`);
  if (typeof schema.$ref === 'string') {
    const target = schema.$ref
      .split('/')
      .slice(1)
      .reduce<unknown>((node, name) => (node as Schema)?.[name], root);
    if (!target) return [`${at}: ${schema.$ref} leads nowhere`];
    return faultsOf(value, target as Schema, root, at);
  }
  if (schema.type !== undefined) {
    const types = Array.isArray(schema.type) ? schema.type : [schema.type];
    if (!types.some((type) => isOf(value, type as string)))
      fault(`is ${JSON.stringify(value)?.slice(0, 60)}, not ${types.join(' or ')}`);
  }
  if ('const' in schema && value !== schema.const) fault(`is not ${JSON.stringify(schema.const)}`);
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) fault(`is none of ${schema.enum.join(', ')}`);
  if (Array.isArray(schema.anyOf) && !schema.anyOf.some((each) => faultsOf(value, each, root, at).length === 0))
    fault('fits nothing of anyOf');
  if (Array.isArray(schema.oneOf)) {
    const fits = schema.oneOf.filter((each) => faultsOf(value, each, root, at).length === 0).length;
    if (fits !== 1) fault(`fits ${fits} of oneOf`);
  }
  for (const each of (schema.allOf ?? []) as Schema[]) faults.push(...faultsOf(value, each, root, at));
  if (typeof value === 'number') {
    if (typeof schema.minimum === 'number' && value < schema.minimum) fault('is too small');
    if (typeof schema.maximum === 'number' && value > schema.maximum) fault('is too large');
  }
  if (typeof value === 'string') {
    if (typeof schema.maxLength === 'number' && value.length > schema.maxLength) fault('is too long');
    if (typeof schema.pattern === 'string' && !new RegExp(schema.pattern, 'u').test(value))
      fault(`does not match ${schema.pattern}`);
    if (schema.format === 'date-time' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value))
      fault('is no date-time');
  }
  if (Array.isArray(value) && schema.items) {
    for (const [i, item] of value.entries())
      faults.push(...faultsOf(item, schema.items as Schema, root, `${at}[${i}]`));
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const object = value as Record<string, unknown>;
    const properties = (schema.properties ?? {}) as Record<string, Schema>;
    for (const name of (schema.required ?? []) as string[]) if (!(name in object)) fault(`lacks ${name}`);
    for (const [name, member] of Object.entries(object)) {
      if (properties[name]) faults.push(...faultsOf(member, properties[name], root, `${at}.${name}`));
      else if (schema.additionalProperties === false) fault(`has ${name}`);
      else if (typeof schema.additionalProperties === 'object')
        faults.push(...faultsOf(member, schema.additionalProperties as Schema, root, `${at}.${name}`));
    }
  }
  return faults;
}

function isOf(value: unknown, type: string): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}
