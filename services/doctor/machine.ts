import { totalmem } from 'node:os';
import type { Check } from './check.ts';

/** Node itself and the memory it may have. */
const WANTED = [24, 0] as const;
const MIB = 1_048_576;
/** What a node takes beside its resident twins, by docs/operations.md, "Memory": with the embedded database, and less that. */
const BASE_MB = { embedded: 550, server: 270 };

export const node: Check = {
  part: 'node',
  look(_, tell) {
    const [major, minor] = process.versions.node.split('.').map(Number);
    if (major < WANTED[0] || (major === WANTED[0] && minor < WANTED[1]))
      tell.fault(
        `Node ${process.versions.node} cannot run this`,
        'Start with npm: Node 24 is installed with the packages.',
      );
    else tell.ok(`Node ${process.versions.node}`);
  },
};

export function memoryCheck(availableBytes = limitBytes()): Check {
  return {
    part: 'memory',
    look({ settings }, tell) {
      const base = settings.databaseUrl === null ? BASE_MB.embedded : BASE_MB.server;
      const needed = settings.roles.includes('host') ? base + settings.maxResidentMb : base;
      const there = Math.floor(availableBytes / MIB);
      const says = `${there} MiB for this process; it may come to ${needed} MiB (${settings.maxResidentMb} of them resident twins)`;
      if (there < needed) tell.warning(says, 'Lower MAX_RESIDENT_MB, or give the machine or container more memory.');
      else tell.ok(says);
    },
  };
}

export const memory: Check = memoryCheck();

function limitBytes(): number {
  // A container's limit; a huge number, or 0, where there is none.
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : totalmem();
}
