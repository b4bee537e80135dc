import { type Span, type TracedTurn, type Tracer, traceparentOf } from '../protocol/trace.ts';
import type { Part } from './part.ts';
import type { CurrentMessage, HostedShard } from './shard.ts';

/**
 * The way of a traced message through the host: turn, commit, and the delivery of its events, each the child of the one before.
 *
 * Owns when those spans begin and end. Does not own what is traced: a batch says so itself.
 */

/** A message with a trace is about to be folded. */
export function beginTurn(shard: HostedShard, current: CurrentMessage, tracer: Tracer | undefined): void {
  const { message } = current;
  const trace = traceparentOf(message.trace);
  if (trace === null) return;
  const span = tracer?.start('turn', trace, {
    'twinmesh.shard': shard.shard,
    'twinmesh.epoch': shard.epoch,
    'twinmesh.position': message.position,
    'twinmesh.readings': message.readings.length,
  });
  if (span) current.turn = { span, afterSeq: shard.eventSeq };
}

/** It has been folded whole: its commit belongs to the part that moves past it. */
export function endTurn(shard: HostedShard, part: Part, turn: NonNullable<CurrentMessage['turn']>): void {
  const { span, afterSeq } = turn;
  span.note({ 'twinmesh.events': shard.eventSeq - afterSeq });
  span.end();
  part.traced ??= [];
  part.traced.push({ trace: span.trace, afterSeq, upToSeq: shard.eventSeq, commit: null });
}

/** The parts go out as one statement. */
export function beginCommit(parts: readonly Part[], tracer: Tracer): void {
  for (const part of parts) {
    if (part.traced === null) continue;
    const { shard, commitNo, epoch } = part.shard;
    const facts = { 'twinmesh.shard': shard, 'twinmesh.epoch': epoch, 'twinmesh.commit_no': commitNo };
    for (const turn of part.traced) {
      turn.commit = tracer.start('commit', turn.trace, {
        ...facts,
        'twinmesh.cut_shards': parts.length,
        'twinmesh.part_entries': part.size,
      });
    }
  }
}

export function endCommit(part: Part, fault?: string): void {
  if (part.traced === null) return;
  for (const { commit } of part.traced) commit?.end(fault);
}

/** Beyond these, events of a shard go untraced: a sink that is away for long holds spans in memory. */
const MAX_OPEN = 100;

/** Events of traced messages on their way to one sink: from their commit until the sink has them. One a lane. */
export class TracedEvents {
  #open: { upToSeq: number; span: Span }[] = [];

  begin(turns: readonly TracedTurn[], tracer: Tracer, facts: { sink: string; shard: number }): void {
    for (const { commit, afterSeq, upToSeq } of turns) {
      if (commit === null || upToSeq === afterSeq || this.#open.length >= MAX_OPEN) continue;
      const span = tracer.start('event', commit.trace, {
        'twinmesh.sink': facts.sink,
        'twinmesh.shard': facts.shard,
        'twinmesh.events': upToSeq - afterSeq,
      });
      if (span !== null) this.#open.push({ upToSeq, span });
    }
  }

  delivered(upToSeq: number): void {
    while (this.#open.length > 0 && this.#open[0].upToSeq <= upToSeq) this.#open.shift()?.span.end();
  }

  /** The shard is another node's now, or the sink is closed: whoever comes after delivers what is left. */
  leave(): void {
    for (const { span } of this.#open.splice(0)) span.end('left to the next owner of the shard');
  }
}
