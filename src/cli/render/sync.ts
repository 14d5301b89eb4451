import type { LastSync, SyncAction, SyncStatus } from "../../array/status.ts";
import { formatBytes, formatDuration } from "../sizes.ts";

const CELLS = 20;

/** md's bar (/proc/mdstat): 20 cells and a head. `fraction` is 0 to 1. */
export function progressBar(fraction: number): string {
  const done = Math.floor(fraction * CELLS);
  return `[${"=".repeat(done)}>${".".repeat(CELLS - done)}]`;
}

/** What a sync does, in mdadm's words for a State line. */
export const SYNC_PARTICIPLES: Record<SyncAction, string> = {
  resync: "resyncing",
  recovery: "recovering",
  check: "checking",
  repair: "repairing",
  reshape: "reshaping",
};

/** `[==>..................] 12.6% (128 MiB/1 GiB), 120 MiB/s, finish 3m 12s` */
export function renderSync(sync: SyncStatus): string {
  if (sync.pending) return sync.waitingFor === null ? "pending" : `waits: ${sync.waitingFor}`;
  const fraction = syncFraction(sync);
  const parts = [
    `${progressBar(fraction)} ${percent(fraction)} ` +
      `(${formatBytes(sync.doneBytes)}/${formatBytes(sync.totalBytes)})`,
    `${formatBytes(sync.bytesPerSecond)}/s`,
  ];
  if (sync.etaSeconds !== null) parts.push(`finish ${formatDuration(sync.etaSeconds)}`);
  if (sync.skippedBytes > 0) parts.push(`${formatBytes(sync.skippedBytes)} skipped`);
  if (sync.waitingFor !== null) parts.push(`waits: ${sync.waitingFor}`);
  return parts.join(", ");
}

/** A sync of nothing is done. Never more than 1. */
export function syncFraction({ doneBytes, totalBytes }: SyncStatus): number {
  return totalBytes === 0 ? 1 : Math.min(1, doneBytes / totalBytes);
}

/** Rounded down: 100.0% means done. */
export function percent(fraction: number): string {
  return `${(Math.floor(fraction * 1000 + 1e-6) / 10).toFixed(1)}%`;
}

/** `resync done at 2026-03-01 12:00:00, took 12s: 1 GiB read, 0 B written, 3 GiB skipped` */
export function renderLastSync(last: LastSync): string {
  const took = formatDuration(last.finishedAt - last.startedAt);
  return (
    `${last.action} ${last.result} at ${renderTime(last.finishedAt)}, took ${took}: ` +
    `${formatBytes(last.readBytes)} read, ${formatBytes(last.writtenBytes)} written, ` +
    `${formatBytes(last.skippedBytes)} skipped`
  );
}

/** UTC, and says so. */
export function renderTime(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toISOString().replace("T", " ").replace(".000Z", " UTC");
}
