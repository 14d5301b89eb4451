/** NBD_RAID_SEED repeats a run; NBD_RAID_LONG=1 makes it a long one. Failing tests name the seed. */
export const SEED = Number(process.env["NBD_RAID_SEED"] ?? Date.now() % 2 ** 31);
export const LONG = process.env["NBD_RAID_LONG"] === "1";
