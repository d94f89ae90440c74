/** What server processes use while a load runs, read from /proc (Linux). */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ProcessUse } from './results.ts';
import type { ServerProcess } from './servers.ts';

const sampleMs = 50;
const ticksPerSecond = 100;
const pageBytes = 4096;

/** User and system CPU seconds so far, and resident bytes now. Nothing of a process that has ended. */
function readStat(pid: number): { cpuSeconds: number; residentBytes: number } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // Fields are counted after the command name, which may contain spaces: 14 and 15 are utime and stime, 24 is rss.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { cpuSeconds: ticks / ticksPerSecond, residentBytes: Number(fields[21]) * pageBytes };
}

/** The kernel's own high-water mark, made to begin anew; it sees what falls between two samples. */
function resetPeak(pid: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    return true;
  } catch {
    return false;
  }
}

function readPeak(pid: number): number {
  try {
    const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return line === null ? 0 : Number(line[1]) * 1024;
  } catch {
    return 0;
  }
}

/** Watches from now on; the function returned ends that and tells. */
export function watchUsage(processes: readonly ServerProcess[]): () => ProcessUse[] {
  const watched = processes.map(({ name, role, pid }) => {
    const now = readStat(pid);
    return {
      name,
      role,
      pid,
      exact: resetPeak(pid),
      before: now?.cpuSeconds ?? 0,
      peakBytes: now?.residentBytes ?? 0,
    };
  });
  const sample = (): void => {
    for (const each of watched)
      each.peakBytes = Math.max(each.peakBytes, readStat(each.pid)?.residentBytes ?? 0);
  };
  const timer = setInterval(sample, sampleMs);
  return () => {
    clearInterval(timer);
    sample();
    return watched.map(({ name, role, pid, exact, before, peakBytes }) => ({
      name,
      role,
      cpuSeconds: (readStat(pid)?.cpuSeconds ?? before) - before,
      peakBytes: exact ? Math.max(peakBytes, readPeak(pid)) : peakBytes,
    }));
  };
}
