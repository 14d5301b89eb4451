import type { BitmapSummary, ConvertedArray } from "../../array/convert.ts";
import { formatBytes } from "../sizes.ts";
import { printable } from "./printable.ts";

/** One line: what the bitmap was, and what it is now. */
export function renderConverted(converted: ConvertedArray): string {
  const { name, changed, before, bitmap } = printable(converted);
  const was = before === null ? "there was no bitmap" : `the bitmap was ${inWords(before)}`;
  const is = bitmap === null ? "there is none now" : `it is ${inWords(bitmap)} now`;
  if (changed) return `${name}: ${was}, ${is}\n`;
  const already = bitmap === null ? "there is no bitmap" : `the bitmap is ${inWords(bitmap)}`;
  return `${name}: ${already} already, nothing was changed\n`;
}

function inWords({ type, regions, regionSize }: BitmapSummary): string {
  return `${type} (${regions} ${regions === 1 ? "region" : "regions"} of ${formatBytes(regionSize)})`;
}
