import { readFileSync, writeFileSync } from 'node:fs';

/** Bytes. `VmRSS`: now; `VmHWM`: the most since `resetPeak`. Linux only. */
export function memoryBytes(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)![1]) * 1024;
}

/** From now on VmHWM is the peak since now (proc(5), clear_refs). */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** Seconds of CPU that a process has used, all threads. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name may hold spaces: fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Longest delay of a Node process' event loop since the last call, in ms; undefined where there is no such metric. */
export async function longestDelayMs(url: string): Promise<number | undefined> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = /nodejs_eventloop_delay_seconds\{quantile="1"\} (\S+)/.exec(text);
  return found === null ? undefined : Number(found[1]) * 1_000;
}

export function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
