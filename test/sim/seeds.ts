/** The seed that the environment asks for, or as many as the length of the suite says. */
export function seedsToRun(count: { readonly short: number; readonly long: number }): number[] {
  const given = process.env["NBD_RAID_SEED"];
  if (given !== undefined) return [Number(given)];
  const runs = process.env["NBD_RAID_LONG"] === "1" ? count.long : count.short;
  return Array.from({ length: runs }, (_, index) => index + 1);
}
