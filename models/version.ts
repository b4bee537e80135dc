/** Versions of models: `major.minor.patch`, compared as numbers. */
const VERSION = /^(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})$/;
const NAME = /^[a-z][a-z0-9-]{0,47}$/;

export function isVersion(text: unknown): text is string {
  return typeof text === 'string' && VERSION.test(text);
}

export function isModelName(text: unknown): text is string {
  return typeof text === 'string' && NAME.test(text);
}

/** Below 0 where `a` is older. Both have to be versions. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number));
  for (let i = 0; i < 3; i++) if (left[i] !== right[i]) return left[i] - right[i];
  return 0;
}
