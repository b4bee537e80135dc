/**
 * JSON Schema (2020-12, as OpenAPI 3.1 speaks it) of a fastest-validator schema. Only what the actions use is
 * translated; an unknown rule becomes the empty schema, which promises nothing rather than something wrong.
 */
export type JsonSchema = Record<string, unknown>;
type Rule = Record<string, unknown> & { type?: string };

export interface ObjectSchema {
  properties: Record<string, JsonSchema>;
  required: string[];
  additional: boolean;
}

/** Properties of a params object. Keys that begin with `$$` speak about the object itself. */
export function objectOf(params: Record<string, unknown>): ObjectSchema {
  const properties: Record<string, JsonSchema> = {};
  const required: string[] = [];
  for (const [name, definition] of Object.entries(params)) {
    if (name.startsWith('$$')) continue;
    const rule = ruleOf(definition);
    properties[name] = schemaOf(rule);
    if (!isOptional(rule)) required.push(name);
  }
  return { properties, required, additional: params.$$strict !== true };
}

/** Shorthands in their long form: `'string|optional|min:3'`, `[a, b]` for alternatives, `{ $$type: 'object', … }`. */
function ruleOf(definition: unknown): Rule {
  if (typeof definition === 'string') return shorthand(definition);
  if (Array.isArray(definition)) return { type: 'multi', rules: definition };
  if (typeof definition !== 'object' || definition === null) return {};
  const rule = definition as Rule;
  if (typeof rule.$$type === 'string') return { ...shorthand(rule.$$type), properties: rule };
  return rule;
}

function shorthand(text: string): Rule {
  const [type, ...flags] = text.split('|').map((part) => part.trim());
  const rule: Rule = type.endsWith('[]') ? { type: 'array', items: type.slice(0, -2) } : { type };
  for (const flag of flags) {
    const [name, value] = flag.split(':');
    if (name === 'no' || name === 'optional') rule.optional = true;
    else rule[name] = value === undefined ? true : Number.isNaN(Number(value)) ? value : Number(value);
  }
  return rule;
}

function isOptional(rule: Rule): boolean {
  if (rule.type === 'multi' && (rule.rules as unknown[]).some((each) => isOptional(ruleOf(each)))) return true;
  return rule.optional === true || rule.default !== undefined || rule.type === 'forbidden';
}

export function schemaOf(definition: unknown): JsonSchema {
  const rule = ruleOf(definition);
  const schema = bare(rule);
  if (typeof rule.description === 'string') schema.description = rule.description;
  if (rule.default !== undefined && typeof rule.default !== 'function') schema.default = rule.default;
  if (rule.example !== undefined) schema.examples = [rule.example];
  if (rule.nullable === true && typeof schema.type === 'string') schema.type = [schema.type, 'null'];
  return schema;
}

function bare(rule: Rule): JsonSchema {
  switch (rule.type) {
    case 'string':
      return defined({
        type: 'string',
        minLength: rule.length ?? rule.min ?? (rule.empty === false ? 1 : undefined),
        maxLength: rule.length ?? rule.max,
        pattern: patternOf(rule.pattern),
        enum: rule.enum,
      });
    case 'number':
      return defined({
        type: rule.integer === true ? 'integer' : 'number',
        minimum: rule.min,
        exclusiveMinimum: rule.positive === true ? 0 : undefined,
        maximum: rule.max,
      });
    case 'boolean':
      return { type: 'boolean' };
    case 'enum':
      return { enum: rule.values };
    case 'equal':
      return rule.value === undefined ? {} : { const: rule.value };
    case 'array':
      return defined({
        type: 'array',
        items: rule.items === undefined ? {} : schemaOf(rule.items),
        minItems: rule.length ?? rule.min ?? (rule.empty === false ? 1 : undefined),
        maxItems: rule.length ?? rule.max,
        uniqueItems: rule.unique === true ? true : undefined,
      });
    case 'object':
      return objectSchema((rule.properties ?? rule.props) as Record<string, unknown> | undefined, rule.strict);
    case 'record':
      return {
        type: 'object',
        additionalProperties: rule.value === undefined ? true : schemaOf(rule.value),
      };
    case 'multi':
      return { anyOf: (rule.rules as unknown[]).map(schemaOf) };
    case 'date':
      return { type: 'string', format: 'date-time' };
    case 'email':
    case 'uuid':
      return { type: 'string', format: rule.type };
    case 'url':
      return { type: 'string', format: 'uri' };
    default:
      return {};
  }
}

function objectSchema(properties: Record<string, unknown> | undefined, strict: unknown): JsonSchema {
  if (!properties) return { type: 'object' };
  const object = objectOf(properties);
  return defined({
    type: 'object',
    properties: object.properties,
    required: object.required.length > 0 ? object.required : undefined,
    additionalProperties: strict === true || !object.additional ? false : undefined,
  });
}

function patternOf(pattern: unknown): string | undefined {
  if (pattern instanceof RegExp) return pattern.source;
  return typeof pattern === 'string' ? pattern : undefined;
}

function defined(schema: JsonSchema): JsonSchema {
  return Object.fromEntries(Object.entries(schema).filter(([, value]) => value !== undefined));
}
