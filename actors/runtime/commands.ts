import type { Command, CommandEntry } from '../protocol/entry.ts';
import { TwinmeshError } from '../protocol/errors.ts';
import type { Emitted } from '../protocol/event.ts';
import { H, R, RULE_RAISED } from './layout.ts';
import { alertBody, alertIdOf, clear, type EffectiveRule, rulesFor } from './rules.ts';
import { MAX_DESIRED_CHARS, REMEMBERED_COMMANDS, type TwinState } from './state.ts';
import { goOffline } from './turn.ts';
import { deltaOf } from './view.ts';

/** Commands: checked before they are journaled (`refuse`), folded like every other entry (`foldCommand`). */

/** Throws what is wrong with a command in this state; a command that passes folds without failing. */
export function refuse(state: TwinState, command: Command): void {
  const retired = state.n[H.RETIRED] === 1;
  switch (command.name) {
    case 'acknowledge':
    case 'resolve':
    case 'silence':
      standing(state, command.alert);
      return;
    case 'restore':
      if (!retired) throw new TwinmeshError('conflict', `${state.twinId} is not retired.`);
      return;
    case 'retire':
      if (retired) throw new TwinmeshError('conflict', `${state.twinId} is retired already.`);
      return;
    case 'offline':
      return;
    case 'desired':
    case 'attributes': {
      if (retired) throw new TwinmeshError('retired', `${state.twinId} is retired.`);
      const merged = mergePatch(
        command.name === 'desired' ? state.aside.desired : state.aside.attributes,
        command.patch,
      );
      if (JSON.stringify(merged).length > MAX_DESIRED_CHARS) {
        throw new TwinmeshError(
          'too_large',
          `The ${command.name} state of ${state.twinId} would be longer than ${MAX_DESIRED_CHARS} characters.`,
        );
      }
      return;
    }
    default:
      if (retired) throw new TwinmeshError('retired', `${state.twinId} is retired.`);
  }
}

export function foldCommand(state: TwinState, command: Command, entry: CommandEntry, out: Emitted[]): void {
  const { n, aside } = state;
  const at = entry.receivedAt;
  aside.commands ??= [];
  aside.commands.push([command.key, entry.revision]);
  if (aside.commands.length > REMEMBERED_COMMANDS) aside.commands.shift();
  switch (command.name) {
    case 'desired':
      aside.desired = mergePatch(aside.desired, command.patch) as Record<string, unknown>;
      {
        const delta = deltaOf(state);
        if (Object.keys(aside.desired).length > 0) aside.told = Object.keys(delta).sort().join(',');
        else delete aside.told;
        out.push({ type: 'desired.changed', at, body: { desired: aside.desired, delta, by: command.by } });
      }
      break;
    case 'attributes':
      aside.attributes = mergePatch(aside.attributes, command.patch) as typeof aside.attributes;
      break;
    case 'maintenance':
      aside.maintenance = { at: command.at, work: command.work, by: command.by };
      out.push({
        type: 'maintenance.recorded',
        at,
        body: {
          work: command.work,
          performedAt: command.at,
          by: command.by,
          ...(command.details ? { details: command.details } : {}),
        },
      });
      break;
    case 'acknowledge': {
      const rule = standingRule(state, command.alert);
      if (rule === null) break;
      aside.acknowledged ??= {};
      aside.acknowledged[rule.name] =
        command.note === undefined ? { by: command.by } : { by: command.by, note: command.note };
      out.push({
        type: 'alert.acknowledged',
        at,
        body: alertBody(state, rule, { by: command.by, note: command.note }),
      });
      break;
    }
    case 'resolve': {
      const rule = standingRule(state, command.alert);
      if (rule !== null) clear(state, rule, at, out, 'alert.resolved', { by: command.by, note: command.note });
      break;
    }
    case 'silence': {
      const rule = standingRule(state, command.alert);
      if (rule === null) break;
      n[rule.offset + R.SILENCED_UNTIL] = command.untilMs;
      out.push({
        type: 'alert.silenced',
        at,
        body: { ...alertBody(state, rule, { by: command.by, note: command.note }), until: command.untilMs },
      });
      break;
    }
    case 'retire':
      n[H.RETIRED] = 1;
      n[H.ONLINE] = 0;
      out.push({ type: 'twin.retired', at, body: { by: command.by } });
      break;
    case 'restore':
      n[H.RETIRED] = 0;
      out.push({ type: 'twin.restored', at, body: { by: command.by } });
      break;
    case 'offline':
      goOffline(state, at, command.reason, out);
      break;
  }
}

/**
 * The rule whose standing alert has this id. A fold does not take it for granted: a tail may be folded by a newer version
 * of the kind, under which the alert was never raised.
 */
function standingRule(state: TwinState, alertId: string): EffectiveRule | null {
  for (const rule of rulesFor(state).all) {
    if (state.n[rule.offset + R.STATE] === RULE_RAISED && alertIdOf(state, rule) === alertId) return rule;
  }
  return null;
}

/** Throws not_found where no alert with this id stands. */
function standing(state: TwinState, alertId: string): void {
  if (standingRule(state, alertId) !== null) return;
  throw new TwinmeshError('not_found', `No alert ${alertId} stands on ${state.twinId}; it may have cleared.`);
}

/** RFC 7396. Own properties only, on null-prototype-safe plain objects. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const merged: Record<string, unknown> = {};
  if (target !== null && typeof target === 'object' && !Array.isArray(target)) {
    for (const [name, value] of Object.entries(target)) define(merged, name, value);
  }
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else define(merged, name, mergePatch(Object.hasOwn(merged, name) ? merged[name] : undefined, value));
  }
  return merged;
}

/** Assignment to `__proto__` would change the prototype instead. */
function define(object: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}
