/**
 * Arrays made and filled by us are taken over by the md of a real kernel, and come back: stopped
 * clean, killed under load, or degraded. NBD_RAID_LONG=1 takes all of ours-to-md.cases.ts,
 * NBD_RAID_CASES those of them whose kernel and title match.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isLong, seeded } from "../crash/rounds.ts";
import { Carry, markedBytes, MORE_BYTES } from "./carry.ts";
import { seededBytes } from "./filled.ts";
import { inGuest } from "./guest.ts";
import { DEBIAN, type Kernel, LLBITMAP } from "./kernels.ts";
import { isRedundant, OURS_TO_MD, type OursToMd } from "./ours-to-md.cases.ts";

const SCRIPT = readFileSync(new URL("ours-to-md.sh", import.meta.url), "utf8");
const DISKS_MAX = 24;
const AT_ONCE = 3;
const SECTOR_BYTES = 512;
/** What metadata may cost a member beside its data: superblocks, bitmap, partition tables. */
const METADATA_BYTES = 1024 * 1024;
/** What the kernel says where something is wrong. */
const COMPLAINT =
  /warning|bug:|error|invalid|fail|out of date|corrupt|unknown|refus|cannot|could not/i;
/** Members that we failed, that the script fails. */
const EXPECTED = /kicking non-fresh|Disk failure on vd|failed on vd/i;

const only = process.env["NBD_RAID_CASES"];
const isTaken = ({ kernel, title, isSample }: OursToMd): boolean =>
  only === undefined ? isLong || isSample : new RegExp(only).test(`${kernel}: ${title}`);

const { seed } = seeded();
const more = seededBytes(seed, MORE_BYTES);

/** What the guest said of one array; words by name. */
type Findings = ReadonlyMap<string, string>;

/** Disk by disk, as many arrays as one guest can hold. */
function boots(kernel: Kernel): OursToMd[][] {
  const groups: OursToMd[][] = [];
  let disks = DISKS_MAX;
  for (const of of OURS_TO_MD) {
    if (of.kernel !== kernel.name || !isTaken(of)) continue;
    if (disks + of.members > DISKS_MAX) {
      groups.push([]);
      disks = 0;
    }
    groups.at(-1)!.push(of);
    disks += of.members;
  }
  return groups;
}

async function makeAll(cases: readonly OursToMd[]): Promise<Carry[]> {
  const made: Carry[] = [];
  let next = 0;
  const maker = async (): Promise<void> => {
    while (next < cases.length) {
      const at = next++;
      made[at] = await Carry.make(cases[at]!, seed + at);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, maker));
  return made;
}

/** The guest's script: one case after another, each with the disks that are its members. */
function scriptOf(carries: readonly Carry[]): string {
  let disk = 0;
  const lines = carries.map(({ of, images, moreAt }, at) => {
    const devices = images.map(() => `/dev/vd${String.fromCharCode(97 + disk++)}`);
    return `one_case ${at} ${of.state} "${moreAt}" ${devices.join(" ")}`;
  });
  return [SCRIPT, ...lines].join("\n");
}

/** By case: its findings, and all of its output. */
function readFindings(output: string): { found: Findings; text: string }[] {
  const [, ...parts] = output.split(/^@case \d+$/m);
  return parts.map((text) => {
    const found = new Map<string, string>();
    for (const [, name, words] of text.matchAll(/^@(\w+) ?(.*)$/gm)) {
      found.set(name!, name === "kernel" ? `${found.get("kernel") ?? ""}${words}\n` : words!);
    }
    return { found, text };
  });
}

const groups = [DEBIAN, LLBITMAP].flatMap((kernel) =>
  boots(kernel).map((cases, at) => ({ title: `${kernel.name}, boot ${at + 1}`, kernel, cases })),
);

describe.each(groups)("arrays of ours in a guest of $title", ({ kernel, cases }) => {
  let folder: string;
  let carries: Carry[] = [];
  let results: ReturnType<typeof readFindings>;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "nbd-raid-carry-"));
    const file = join(folder, "more");
    await writeFile(file, more);
    carries = await makeAll(cases);
    const disks = carries.flatMap(({ images }) => images);
    const options = { kernel, disks, files: [file], timeoutSeconds: 1800 };
    results = readFindings(await inGuest(scriptOf(carries), options));
  }, 3_600_000);

  afterAll(async () => {
    await Promise.all(carries.map(({ server }) => server.dispose()));
    await rm(folder, { recursive: true, force: true });
  });

  test.each(cases.map((of, at) => ({ title: of.title, at })))("$title", async ({ at }) => {
    const carry = carries[at]!;
    const { found, text } = results[at]!;
    try {
      expect(found.get("status")).toBe("0");
      expectTaken(carry, found);
      if (carry.of.state === "killed") expectResynced(carry, found);
      if (carry.of.state === "degraded") expectRejoined(carry, found);
      await expectCountsBack(carry, found);
      await carry.expectBack(more, found);
    } catch (error) {
      console.error(`seed ${seed}, ${carry.of.title}:\n${text}${carry.server.stderr}`);
      throw error;
    }
  });
});

/** md found what we left, with no resync that it need not do, and nothing to complain of. */
function expectTaken(carry: Carry, found: Findings): void {
  const { of, digest } = carry;
  const complaints = (found.get("kernel") ?? "").split("\n").filter((line) => COMPLAINT.test(line));
  expect(complaints.filter((line) => !EXPECTED.test(line))).toEqual([]);
  expect(found.get("size")).toBe(String(carry.sizeBytes));
  expect(found.get("digest")).toBe(digest ?? found.get("digest"));
  if (!isRedundant(of)) return;
  expect(found.get("degraded")).toBe(of.state === "degraded" ? "1" : "0");
  if (of.state === "clean") expect(found.get("action")).toBe("idle none");
  expect(found.get("mismatches")).toBe("0");
  expectCounts(carry, found.get("bits"));
}

/** The kernel counts in the bitmap what we do. It reads marks that a kill left as "need sync". */
function expectCounts({ counts }: Carry, said: string | undefined): void {
  if (counts === null) return expect(said).toBe("none");
  const { unwritten, clean, dirty, needSync, syncing, regions } = counts;
  const marked = dirty + needSync + syncing;
  if (counts.type === "internal")
    return expect(said).toContain(`${regions} bits (chunks), ${marked} dirty`);
  expect(readBits(said)).toEqual({ unwritten, clean, dirty: 0, marked });
}

/** After md had it: as md counted, and nothing is marked. */
async function expectCountsBack(carry: Carry, found: Findings): Promise<void> {
  const counts = await carry.countsNow();
  expect(counts?.type ?? "none").toBe(carry.of.bitmap);
  if (counts === null) return;
  expect(markedBytes(counts)).toBe(0);
  expect(counts.regions).toBe(carry.counts?.regions);
  if (counts.type !== "lockless") return;
  const { unwritten, clean, dirty } = readBits(found.get("bits_at_stop"));
  expect(counts).toMatchObject({ unwritten, clean: clean + dirty });
}

/** `md/llbitmap/bits`, with what is kept apart there only for the kernel's own use put together. */
function readBits(said = ""): { unwritten: number; clean: number; dirty: number; marked: number } {
  // The first of each name: "need sync unwritten" and the like come last.
  const count = (name: string): number => Number(new RegExp(`\\b${name} (\\d+)`).exec(said)?.[1]);
  return {
    unwritten: count("unwritten"),
    clean: count("clean"),
    dirty: count("dirty"),
    marked: count("need sync") + count("syncing"),
  };
}

/** Bytes read and written of each member between two findings. */
function transferred(found: Findings, count: number): { read: number; written: number }[] {
  const [before, after] = ["before", "after"].map((name) => {
    const words = (found.get(name) ?? "").split(" ").map(Number);
    expect(words).toHaveLength(2 * count);
    return words;
  });
  return Array.from({ length: count }, (_, at) => ({
    read: (after![2 * at]! - before![2 * at]!) * SECTOR_BYTES,
    written: (after![2 * at + 1]! - before![2 * at + 1]!) * SECTOR_BYTES,
  }));
}

/** After a kill: all that is marked was looked at, and with a bitmap nothing else. */
function expectResynced(carry: Carry, found: Findings): void {
  expect(found.get("action_after")).toBe("idle none");
  const { counts, componentBytes, of } = carry;
  const members = transferred(found, of.members);
  const marked = counts === null ? componentBytes : markedBytes(counts);
  const readBytes = members.reduce((sum, { read }) => sum + read, 0);
  expect(readBytes).toBeGreaterThanOrEqual(marked);
  if (counts === null) return;
  expect(marked).toBeGreaterThan(0);
  expect(marked).toBeLessThan((counts.regions * counts.regionSize) / 2);
  for (const { read, written } of members) {
    expect(read).toBeLessThanOrEqual(marked + METADATA_BYTES);
    expect(written).toBeLessThanOrEqual(marked + METADATA_BYTES);
  }
}

/** By bitmap if there is one: it gets what it missed, and no more. */
function expectRejoined(carry: Carry, found: Findings): void {
  const { counts, componentBytes, of } = carry;
  const [member] = transferred(found, 1);
  const marked = counts === null ? componentBytes : markedBytes(counts);
  expect(found.get("rejoined")).toBe(counts === null ? "add" : "re-add");
  // Regions of level 10 are the array's: a member has a part of each.
  if (of.level !== "10") expect(member!.written).toBeGreaterThanOrEqual(marked);
  expect(member!.written).toBeLessThanOrEqual(marked + METADATA_BYTES);
  if (counts !== null) expect(marked).toBeLessThan((counts.regions * counts.regionSize) / 2);
  expect(found.get("degraded_after")).toBe("0");
  expect(found.get("digest_of_rejoined")).toBe(carry.digest);
  expect(found.get("degraded_at_stop")).toBe("0");
  if (of.bitmap !== "lockless") expect(found.get("mismatches_at_stop")).toBe("0");
  // What was never written is not copied: there it reads as the new disk, or the others, had it.
  if (of.bitmap !== "lockless") expect(found.get("digest_of_rebuilt")).toBe(carry.digest);
}
