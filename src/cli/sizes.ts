import { DELAY_MS_MAX } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";

const UNITS = ["", "K", "M", "G", "T", "P"];

/** Bytes from 512, 64K, 10M, 1G, 2T: whole numbers, powers of 1024, not 0. */
export function parseSize(text: string): number {
  const bytes = parseSpeed(text);
  if (bytes === 0) throw new NbdRaidError("usage", `"${text}" is not a size: it is 0`);
  return bytes;
}

/** Bytes a second, written like a size; 0 means no limit. */
export function parseSpeed(text: string): number {
  const [, digits, unit] = /^(\d+)([KMGTP]?)$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** UNITS.indexOf((unit ?? "").toUpperCase());
  if (!Number.isSafeInteger(bytes))
    throw new NbdRaidError("usage", `"${text}" is not a size such as 512, 64K, 10M, 1G or 2T`);
  return bytes;
}

/** The longest time in whole seconds: all are for timers. */
export const SECONDS_MAX = Math.floor(DELAY_MS_MAX / 1000);

/** Milliseconds from 30, 0.5 or 30s (seconds) or 500ms; as many as a timer takes. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(s|ms)?$/.exec(text) ?? [];
  const milliseconds = Math.round(Number(digits) * (unit === "ms" ? 1 : 1000));
  if (!Number.isSafeInteger(milliseconds))
    throw new NbdRaidError("usage", `"${text}" is not a time such as 30, 0.5 or 500ms`);
  if (milliseconds > SECONDS_MAX * 1000)
    throw new NbdRaidError("usage", `"${text}" is too long: at most ${SECONDS_MAX} seconds`);
  return milliseconds;
}

/** For people: 512 B, 64 KiB, 1.5 GiB. One decimal, where there is one. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(5, Math.floor(Math.log2(bytes) / 10));
  const amount = Math.floor((bytes / 1024 ** power) * 10) / 10;
  return `${amount} ${power === 0 ? "B" : `${UNITS[power]}iB`}`;
}

const SECONDS = { d: 86_400, h: 3_600, m: 60, s: 1 };

/** For people: 45s, 3m 12s, 2h 5m, 3d 4h. Two units at most. */
export function formatDuration(seconds: number): string {
  const parts: string[] = [];
  let rest = Math.round(seconds);
  for (const [unit, size] of Object.entries(SECONDS)) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)}${unit}`);
    else if (parts.length > 0) break;
    rest %= size;
  }
  return parts.slice(0, 2).join(" ") || "0s";
}
