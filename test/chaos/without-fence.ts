import { readFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';

/**
 * Loaded before a node (`--import`) to show that the harness finds what the fence is there for: the checkpoint of this
 * process commits whoever owns the shard. Source is changed on its way from the disk; what is on the disk has no switch.
 */
const FENCE = new URL('../../actors/store/postgres/commit.ts', import.meta.url).href;
const CONDITION = /s\.owner = \$\{node\} and s\.epoch = c\.epoch and s\.commit_no = c\.commit_no\s+and /;
/** The parameter has to be used somewhere, or PostgreSQL does not know its type. */
const WITHOUT = '$${node} is not null and ';

registerHooks({
  load(url, context, nextLoad) {
    if (url !== FENCE) return nextLoad(url, context);
    const source = readFileSync(fileURLToPath(url), 'utf8');
    if (!CONDITION.test(source)) throw new Error(`${url} has another fence than the one that is to be taken out.`);
    return { format: 'module', source: stripTypeScriptTypes(source.replace(CONDITION, WITHOUT)), shortCircuit: true };
  },
});
