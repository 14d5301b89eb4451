import fc from "fast-check";

/**
 * Checks a property on random values. A failure prints the seed; NBD_RAID_SEED=N runs with it
 * again. NBD_RAID_LONG=1 takes a hundred times as many values.
 */
export function holds<T>(property: fc.IProperty<T>): void {
  const seed = process.env["NBD_RAID_SEED"];
  const numRuns = process.env["NBD_RAID_LONG"] === "1" ? 20_000 : 200;
  fc.assert(property, { numRuns, ...(seed === undefined ? {} : { seed: Number(seed) }) });
}
