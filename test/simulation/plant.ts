import { readFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type Patch, PLANTS } from './plants.ts';

/**
 * Plants a bug in the program of this process, and only there: source is changed on its way from the disk, before the
 * module is evaluated. What is on the disk has no switch, so a planted bug cannot be shipped.
 *
 * Call it before anything of the runtime is imported. Throws when a patch does not fit exactly one place: then the source
 * has moved on, and the plant has to follow.
 */
export function plant(name: string): void {
  const plant = PLANTS.find((p) => p.name === name);
  if (!plant) throw new Error(`There is no planted bug "${name}"; there are ${PLANTS.map((p) => p.name).join(', ')}.`);
  const byFile = new Map<string, Patch[]>();
  for (const patch of plant.patches) {
    const url = new URL(`../../${patch.file}`, import.meta.url).href;
    byFile.set(url, [...(byFile.get(url) ?? []), patch]);
    apply(patch, readFileSync(fileURLToPath(url), 'utf8'));
  }
  registerHooks({
    load(url, context, nextLoad) {
      const patches = byFile.get(url);
      if (!patches) return nextLoad(url, context);
      let source = readFileSync(fileURLToPath(url), 'utf8');
      for (const patch of patches) source = apply(patch, source);
      return { format: 'module', source: stripTypeScriptTypes(source), shortCircuit: true };
    },
  });
}

function apply({ file, find, replace }: Patch, source: string): string {
  const at = source.indexOf(find);
  if (at < 0 || source.indexOf(find, at + 1) >= 0) {
    throw new Error(`${file} has this text ${at < 0 ? 'nowhere' : 'more than once'}: ${find}`);
  }
  return source.slice(0, at) + replace + source.slice(at + find.length);
}
