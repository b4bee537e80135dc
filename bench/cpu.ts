import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/**
 * Processor time of this process and of a server beside it, for scenarios that share their cores with others: microseconds of
 * CPU say the same on a busy machine as on an idle one, rates do not. Linux only; NaN elsewhere.
 */
const TICKS_A_SECOND = 100;

/** Seconds of CPU of this process so far, all threads. */
export function ownCpuS(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Seconds of CPU that the whole machine has spent, on whatever it was. */
export function machineCpuS(): number {
  let ms = 0;
  for (const { times } of cpus()) ms += times.user + times.nice + times.sys + times.irq;
  return ms / 1_000;
}

/** Seconds of CPU of a process, its living children and those it has waited for. */
export function treeCpuS(pid: number): number {
  try {
    let ticks = ticksOf(pid);
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      try {
        if (fieldsOf(Number(entry))[1] === String(pid)) ticks += ticksOf(Number(entry));
      } catch {
        // ended meanwhile: its parent has waited for it
      }
    }
    return ticks / TICKS_A_SECOND;
  } catch {
    return Number.NaN;
  }
}

/** utime + stime + cutime + cstime */
function ticksOf(pid: number): number {
  const fields = fieldsOf(pid);
  return Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14]);
}

/** Fields of /proc/<pid>/stat from the state on: the name before it may hold anything. */
function fieldsOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
