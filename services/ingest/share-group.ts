import type { Clock, Random, TimerHandle } from '../../actors/protocol/clock.ts';
import type { MqttClient, MqttClientOptions } from '../../mixins/mqtt-client.ts';
import { MqttPresence } from '../../mixins/mqtt-presence.ts';

/**
 * Stands in for members of a share group that are gone.
 *
 * A broker goes on giving a member that is gone its share, and keeps it for that member's session; what the member had not
 * acknowledged waits there too. Without the session it would be lost. So the session is kept, and another member takes it
 * over under the same client id, until its owner is back.
 *
 * Owns: what the members say of themselves, and the connections that stand in. Does not own the member's own connection.
 *
 * Invariants:
 *  1  A member that is gone for `afterMs` is stood in for by one of those that are there, which the broker decides: of two
 *     connections under one id it keeps the later.
 *  2  Nobody stands in for a member that is there, and one that comes back has its session at once.
 *  3  A session that nobody came back for within `retireAfterMs` is ended, with nothing left in it.
 *  4  A member is known to be there before it has a session: one that died in between would have a share that nobody knows of.
 */
export interface ShareGroupOptions {
  url: string;
  tls?: MqttClientOptions['tls'];
  group: string;
  /** Client id of this member. */
  member: string;
  clock: Clock;
  random: Random;
  /** A connection under the client id of another member, with all else as our own. */
  standIn(member: string, onTakenOver: () => void): MqttClient;
  logger: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
  afterMs?: number;
  retireAfterMs?: number;
}

interface StandIn {
  client: MqttClient;
  timer: TimerHandle;
}

const AFTER_MS = 5_000;
const RETIRE_AFTER_MS = 600_000;
/** Client ids that we would take over: nothing else that somebody writes there. */
const MEMBER = /^twinmesh-[A-Za-z0-9._-]{1,64}$/;
const MAX_MEMBERS = 1_000;
/** A broker that tells the members apart from telemetry, or takes no presence, must not keep telemetry away. */
const PRESENT_WITHIN_MS = 5_000;
const HERE = 'here';
const GONE = 'gone';
const COVERED = 'covered ';

export class ShareGroup {
  readonly #options: ShareGroupOptions;
  readonly #said = new Map<string, string>();
  readonly #standIns = new Map<string, StandIn>();
  readonly #waiting = new Map<string, TimerHandle>();
  #presence: MqttPresence | null = null;
  #refused = false;
  #late: TimerHandle | null = null;

  constructor(options: ShareGroupOptions) {
    this.#options = options;
  }

  /** `onPresent`, once: the others know of this member now, or cannot be told. Its own connection is to come after it. */
  open(onPresent: () => void = () => undefined): void {
    const { url, tls, group, member, logger, clock } = this.#options;
    this.#late = clock.after(PRESENT_WITHIN_MS, () => present());
    let isTold = false;
    const present = () => {
      this.#late?.cancel();
      if (isTold || this.#presence === null) return;
      isTold = true;
      onPresent();
    };
    const presence = new MqttPresence({
      url,
      tls,
      root: `twinmesh/${group}/members`,
      member,
      onConnected: () => {
        presence.say(member, HERE);
        for (const name of this.#standIns.keys()) presence.say(name, COVERED + member);
        present();
      },
      onSaid: (name, said) => this.#heard(name, said),
      onRefused: (reason) => {
        if (!this.#refused) logger.warn({ reason }, 'MQTT broker: nobody will stand in for nodes that are gone');
        this.#refused = true;
      },
    });
    this.#presence = presence;
  }

  /** Members whose messages come to this node. */
  get standingInFor(): string[] {
    return [...this.#standIns.keys()];
  }

  /** The sessions stay, for whoever is next. */
  async close(): Promise<void> {
    const presence = this.#presence;
    this.#presence = null;
    this.#late?.cancel();
    for (const timer of this.#waiting.values()) timer.cancel();
    this.#waiting.clear();
    for (const name of this.standingInFor) {
      this.#drop(name);
      presence?.say(name, GONE);
    }
    await presence?.close();
  }

  #heard(name: string, said: string): void {
    const { member } = this.#options;
    if (!MEMBER.test(name) || (this.#said.size >= MAX_MEMBERS && !this.#said.has(name))) return;
    if (said === '') this.#said.delete(name);
    else this.#said.set(name, said);
    if (name === member) {
      // An old last will, or one who stood in for us: we are here.
      if (said !== HERE) this.#presence?.say(member, HERE);
      return;
    }
    const ours = this.#standIns.has(name);
    if (said === HERE || said === '') {
      this.#waiting.get(name)?.cancel();
      this.#waiting.delete(name);
      if (ours) this.#drop(name);
    } else if (ours) {
      if (said !== COVERED + member) this.#presence?.say(name, COVERED + member);
    } else if (!this.#isCovered(name)) this.#wait(name);
    // Those whom it stood in for have nobody now.
    if (said === GONE) for (const [other, text] of this.#said) if (text === COVERED + name) this.#wait(other);
  }

  #isCovered(name: string): boolean {
    const said = this.#said.get(name) ?? HERE;
    if (said === HERE) return true;
    if (!said.startsWith(COVERED)) return false;
    const by = said.slice(COVERED.length);
    return by !== this.#options.member && this.#said.get(by) === HERE;
  }

  /** Some chance, so that not all members come at once. */
  #wait(name: string): void {
    if (this.#waiting.has(name) || name === this.#options.member) return;
    const { clock, random, afterMs = AFTER_MS } = this.#options;
    const timer = clock.after(afterMs * (1 + random() / 2), () => {
      this.#waiting.delete(name);
      if (this.#presence !== null && !this.#standIns.has(name) && !this.#isCovered(name)) this.#standIn(name);
    });
    this.#waiting.set(name, timer);
  }

  #standIn(name: string): void {
    const { clock, member, logger, standIn, retireAfterMs = RETIRE_AFTER_MS } = this.#options;
    logger.info({ member: name }, 'standing in for a node that is gone');
    const client = standIn(name, () => {
      if (this.#standIns.get(name)?.client !== client) return;
      this.#drop(name);
      // Its owner says so, or whoever stands in now. If nobody does, it was a mistake.
      if (!this.#isCovered(name)) this.#wait(name);
    });
    const timer = clock.after(retireAfterMs, () => void this.#retire(name));
    this.#standIns.set(name, { client, timer });
    client.open();
    this.#said.set(name, COVERED + member);
    this.#presence?.say(name, COVERED + member);
  }

  async #retire(name: string): Promise<void> {
    const found = this.#standIns.get(name);
    if (found === undefined) return;
    const { clock, logger, retireAfterMs = RETIRE_AFTER_MS } = this.#options;
    if (await found.client.retire()) {
      if (this.#standIns.get(name) !== found) return;
      this.#standIns.delete(name);
      this.#said.delete(name);
      this.#presence?.say(name, '');
      logger.info({ member: name }, 'the session of a node that did not come back is ended');
    } else if (this.#standIns.get(name) === found) {
      found.timer = clock.after(retireAfterMs, () => void this.#retire(name));
    }
  }

  #drop(name: string): void {
    const found = this.#standIns.get(name);
    this.#standIns.delete(name);
    found?.timer.cancel();
    found?.client.close();
  }
}
