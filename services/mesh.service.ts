import type { Context } from 'moleculer';
import type { Ownership } from '../actors/placement/directory.ts';
import type { TimerHandle } from '../actors/protocol/clock.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { routeBy } from '../mixins/routing.ts';
import type { Mark } from './twins/fleet-stream.ts';

/**
 * What nodes tell each other beside calls: which shards have just changed hands, so that callers follow and the next owner
 * claims at once; and how far the events of a shard have come, so that streams elsewhere read them. All of it only makes
 * things faster: whoever misses it finds it in the database.
 */
const MARKS_EVERY_MS = 20;
const MOVED_EVERY_MS = 3;

interface Mesh {
  marks: Map<number, number>;
  timer: TimerHandle | undefined;
  moved: Map<number, [shard: number, owner: string | null, epoch: number]>;
  movedTimer: TimerHandle | undefined;
  unlisten: (() => void) | undefined;
}

const mesh: PartsSchema<Mesh> = {
  name: 'mesh',
  mixins: [partsMixin],

  events: {
    'shards.moved'(ctx: Context<{ moved: [shard: number, owner: string | null, epoch: number][] }>) {
      const { directory, hosts } = this.parts;
      if (directory === null || ctx.nodeID === this.broker.nodeID) return;
      const moved = ctx.params.moved.map(([shard, owner, epoch]): Ownership => ({ shard, owner, epoch }));
      directory.observe(moved);
      // Whoever gives shards away goes on as soon as they have arrived; whoever wants free ones claims them now.
      if (hosts) this.parts.host.nudge();
    },
  },

  async started() {
    const { directory, hosts, onMoved, clock } = this.parts;
    if (directory === null) return;
    routeBy(this.broker, directory);
    this.marks = new Map();
    this.moved = new Map();
    onMoved((moved) => {
      // Shards are claimed in dozens and come alive one by one: the others hear of them together.
      for (const { shard, owner, epoch } of moved) this.moved.set(shard, [shard, owner, epoch]);
      this.movedTimer ??= clock.after(MOVED_EVERY_MS, () => {
        this.movedTimer = undefined;
        const told = [...this.moved.values()];
        this.moved.clear();
        void this.broker.broadcast('shards.moved', { moved: told });
      });
    });
    if (!hosts) return;
    this.unlisten = this.parts.host.onEvents((events) => {
      for (const { shard, seq } of events) this.marks.set(shard, Math.max(seq, this.marks.get(shard) ?? 0));
      this.timer ??= clock.after(MARKS_EVERY_MS, () => {
        this.timer = undefined;
        const marks: Mark[] = [...this.marks];
        this.marks.clear();
        void this.broker.broadcast('events.committed', { marks });
      });
    });
  },

  async stopped() {
    this.unlisten?.();
    this.timer?.cancel();
    this.movedTimer?.cancel();
  },
};

export default mesh;
