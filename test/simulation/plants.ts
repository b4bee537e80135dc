/** A bug that the simulation has to find, as changes of the source. */
export interface Plant {
  name: string;
  /** What is wrong then. */
  bug: string;
  patches: Patch[];
}

/** `find` lies in the file exactly once. */
export interface Patch {
  file: string;
  find: string;
  replace: string;
}

const HOST = 'actors/runtime/host.ts';
const CUSTODY = 'actors/runtime/custody.ts';
const CLOSING = 'actors/runtime/closing.ts';
const CHECKPOINT = 'actors/runtime/checkpoint.ts';
const ASKING = 'actors/runtime/asking.ts';

export const PLANTS: readonly Plant[] = [
  {
    name: 'fence-without-commit-no',
    bug: 'the fence asks for owner and epoch, not for commit_no: a cut that arrives twice lands twice',
    patches: [
      {
        file: 'actors/store/memory-ledger.ts',
        find: ' && row.commitNo === part.commitNo',
        replace: '',
      },
    ],
  },
  {
    name: 'position-apart-from-state',
    bug: 'the position commits in a transaction of its own, before the rows it speaks of',
    patches: [
      {
        file: CHECKPOINT,
        find: 'committed = await store.commit(cut);',
        replace: `const nothing = { readings: [], entries: [], events: [], snapshots: [], summaries: [], deadLetters: [], cursors: [] };
          await store.commit({ ...cut, ...nothing, shards: cut.shards.map((s) => ({ ...s, eventSeq: s.eventSeq - cut.events.filter((e) => e.shard === s.shard).length, clean: false })) });
          for (const s of cut.shards) s.commitNo++;
          for (const p of parts) p.shard.commitNo++;
          committed = await store.commit(cut);`,
      },
    ],
  },
  {
    name: 'retry-from-memory',
    bug: 'after an unknown outcome the same cut is sent again on top of whatever commit_no the database has',
    patches: [
      {
        file: CHECKPOINT,
        find: 'if (error instanceof OutcomeUnknown) {',
        replace: `if (error instanceof OutcomeUnknown) {
          const rows = await store.shards().catch(() => []);
          for (const s of cut.shards) s.commitNo = rows.find((row) => row.shard === s.shard)?.commitNo ?? s.commitNo;
          for (const p of parts) p.shard.commitNo = cut.shards.find((s) => s.shard === p.shard.shard).commitNo;
          continue;
        }
        if (error instanceof OutcomeUnknown) {`,
      },
    ],
  },
  {
    name: 'regrown-log-not-noticed',
    bug: 'a log that went back and grew again is read on from the old position',
    patches: [
      {
        file: CUSTODY,
        find: 'if (row.positionId === null || row.positionAt === null) return row.position;',
        replace: 'return row.position;',
      },
    ],
  },
  {
    name: 'duplicate-memory-not-persisted',
    bug: 'a snapshot leaves out the identities inside the lateness window',
    patches: [
      {
        file: 'actors/runtime/snapshot.ts',
        find: 'const recent = packIdentities(state.recent.toArray());',
        replace: 'const recent = packIdentities(new Float64Array(0));',
      },
    ],
  },
  {
    name: 'eviction-before-commit',
    bug: 'a twin leaves memory when its snapshot is taken, not when it has committed',
    patches: [
      {
        file: CLOSING,
        find: 'if (!shard || activation.part !== null || activation.leaving !== null) continue;',
        replace: 'if (!shard || activation.leaving !== null) continue;',
      },
      {
        file: CLOSING,
        find: 'activation.leaving = part;',
        replace: 'activation.leaving = part; shard.twins.delete(activation.twinId);',
      },
    ],
  },
  {
    name: 'uncommitted-reads',
    bug: 'a read shows what has been folded without waiting for its commit',
    patches: [{ file: HOST, find: 'if (activation.part === null) return view;', replace: 'return view;' }],
  },
  {
    name: 'wake-ups-lost-on-failover',
    bug: 'a new owner does not schedule the wake-ups of the twins that it brings back',
    patches: [
      {
        file: CUSTODY,
        find: 'for (const activation of shard.twins.values()) this.#host.wakes.schedule(activation);',
        replace: '',
      },
    ],
  },
  {
    name: 'late-ex-owner-publishes',
    bug: 'a node goes on delivering events without asking whether it may still speak for the shard',
    patches: [
      {
        file: 'actors/runtime/outbox.ts',
        find: ' || !this.#o.mayPublish(lane.shard)) return false;',
        replace: ') return false;',
      },
    ],
  },
  {
    name: 'kind-changed-mid-tail',
    bug: 'the fold of a kind changes without its version: snapshots and tails are folded on by other code, and nobody says so',
    patches: [{ file: 'test/simulation/kind.ts', find: '  version: 2,\n', replace: '  version: 1,\n' }],
  },
  {
    name: 'tail-refolded-in-silence',
    bug: 'a newer version of the kind folds the tail that an older one left, and the twin does not say so',
    patches: [
      {
        file: 'actors/runtime/recovery.ts',
        find: 'restored.carried || (stored.tail.length > 0 && kindVersion !== kind.version)',
        replace: 'restored.carried',
      },
    ],
  },
  {
    name: 'command-answered-before-commit',
    bug: 'a command is answered when it has been folded',
    patches: [
      {
        file: 'actors/runtime/folding.ts',
        find: 'if (activation.part === null) pending.resolve(result);',
        replace: 'pending.resolve(result);\n  if (activation.part === null) return;',
      },
    ],
  },
  {
    name: 'log-that-goes-back-while-read',
    bug: 'a log that went back is looked at only when a shard is claimed, not when the connection comes back',
    patches: [
      {
        file: CUSTODY,
        find: 'log.read(row.shard, after, onReadable, () => void this.#lookAgain(shard));',
        replace: 'log.read(row.shard, after, onReadable);',
      },
    ],
  },
  {
    name: 'serving-too-soon',
    bug: 'a node that stood still answers reads again before it has claimed its shards anew',
    patches: [
      {
        file: 'actors/placement/keeper.ts',
        find: 'await this.#look(sentAt, !this.serving);',
        replace: 'this.#lastBeatSentAt = sentAt; await this.#look(sentAt, false);',
      },
    ],
  },
  {
    name: 'prediction-folded-twice',
    bug: 'an answer goes into the journal twice',
    patches: [
      {
        file: ASKING,
        find: 'shard.answers.push({ activation, plan, basedOn, heardAt, prediction });',
        replace: `shard.answers.push({ activation, plan, basedOn, heardAt, prediction });
    shard.answers.push({ activation, plan, basedOn, heardAt, prediction });`,
      },
    ],
  },
  {
    name: 'prediction-holds-a-cut',
    bug: 'no cut goes out while a model is asked',
    patches: [
      {
        file: ASKING,
        find: 'const answer = await within(clock, this.#predict(request), predictionDeadlineMs);',
        replace: `let answer = null;
      await this.#host.checkpoint.between(async () => {
        answer = await within(clock, this.#predict(request), predictionDeadlineMs);
      });`,
      },
    ],
  },
  {
    name: 'answer-for-memory-that-is-gone',
    bug: 'an answer is folded by what was asked, though the twin has left memory meanwhile and has come back',
    patches: [
      {
        file: ASKING,
        find: ' && shard.twins.get(activation.twinId) === activation',
        replace: '',
      },
      {
        file: 'actors/runtime/answer.ts',
        find: 'shard.twins.get(activation.twinId) !== activation || ',
        replace: '',
      },
    ],
  },
  {
    name: 'based-on-read-late',
    bug: 'an answer is said to be about the revision at which it came, not about the one that was asked',
    patches: [
      {
        file: ASKING,
        find: 'shard.answers.push({ activation, plan, basedOn, heardAt, prediction });',
        replace: 'shard.answers.push({ activation, plan, basedOn: activation.revision, heardAt, prediction });',
      },
    ],
  },
  {
    name: 'due-forgotten-when-inference-fails',
    bug: 'twins whose question failed are not put back in line',
    patches: [
      {
        file: ASKING,
        find: 'if (isAlive(question)) this.#enqueue(this.#lineOf.get(question.plan)!, question);',
        replace: 'if (isAlive(question)) continue;',
      },
    ],
  },
  {
    name: 'asked-too-often',
    bug: 'a twin is due again with its next reading, however little event time lies between',
    patches: [
      {
        file: 'actors/runtime/foretelling.ts',
        find: '  if (n[H.AT] - at < plan.use.everyMs) return false;\n',
        replace: '',
      },
    ],
  },
];
