import { describe, expect, test } from "vitest";
import { copiesCopier } from "../../src/raid/copies-copy.ts";
import { FALLBACK_BLOCK_BYTES } from "../../src/raid/level.ts";
import { mirrorPlacement } from "../../src/raid/placement.ts";
import { SyncControl, SyncRole } from "../../src/sync/control.ts";
import type {
  CopyResult,
  MemberIo,
  SyncCommand,
  SyncFailure,
  SyncReply,
} from "../../src/sync/engine.ts";
import { access, lengthOf } from "./bench.ts";

/**
 * How a mirror copies one range: each case says what each slot is, which of its blocks cannot be
 * read, and sees what was read, written and reported. Slot n holds bytes of value n.
 */
const { None, InSync, Target } = SyncRole;
const LENGTH = 4 * FALLBACK_BLOCK_BYTES;

interface Case {
  readonly roles: readonly SyncRole[];
  /** Lower is asked first; by slot. */
  readonly ranks?: readonly number[];
  readonly everywhere?: boolean;
  /** By slot: blocks that cannot be read. */
  readonly bad?: Readonly<Record<number, readonly number[]>>;
  /** By slot: what a write answers. */
  readonly writeFails?: Readonly<Record<number, Omit<SyncFailure, "kind">>>;
  /** Slots that the array ejects when they are reported. */
  readonly ejects?: boolean;
  /** A slot that is lost, to something else, after the first read. */
  readonly losesAfterRead?: number;
  readonly offset?: number;
}

interface Outcome {
  readonly result: CopyResult;
  /** By slot: what each of its blocks held in the end. */
  readonly blocks: number[][];
  readonly reported: [number, "read" | "write"][];
  readonly log: string[];
  readonly control: SyncControl;
}

function copy(example: Case): Outcome {
  const { roles, bad = {}, writeFails = {}, offset = 0 } = example;
  const control = new SyncControl();
  for (const [slot, role] of roles.entries()) {
    control.setSlot(slot, role, example.ranks?.[slot] ?? slot);
  }
  const members = roles.map((_, slot) => new Uint8Array(offset + LENGTH).fill(slot));
  const reported: [number, "read" | "write"][] = [];
  const log: string[] = [];
  const transfer = (io: MemberIo): SyncFailure | null => {
    const { kind, slot, offset: at } = io;
    const length = lengthOf(io);
    log.push(kind === "read" ? `read ${slot} ${at - offset}+${length}` : `write ${slot}`);
    if (kind === "write") {
      const failure = writeFails[slot];
      if (failure !== undefined) return { kind, ...failure };
    } else {
      const hit = (bad[slot] ?? []).some(
        (block) =>
          at < (block + 1) * FALLBACK_BLOCK_BYTES && at + length > block * FALLBACK_BLOCK_BYTES,
      );
      if (hit) return { kind, noSpace: false, message: "bad block" };
    }
    access(members[slot]!, io);
    if (example.losesAfterRead !== undefined) control.setSlot(example.losesAfterRead, None, 0);
    return null;
  };
  const perform = (command: SyncCommand): SyncReply => {
    if (command.op === "io") return command.all.map(transfer);
    if (command.op === "report") {
      reported.push([command.slot, command.failure.kind]);
      if (example.ejects === true) control.setSlot(command.slot, SyncRole.None, 0);
    }
    return [];
  };
  const copier = copiesCopier(mirrorPlacement(roles.length), 2 * LENGTH);
  const everywhere = example.everywhere ?? false;
  const action = everywhere ? "resync" : "recovery";
  const steps = copier(control, {
    offset,
    length: LENGTH,
    everywhere,
    unbuilt: false,
    action,
    ahead: false,
  });
  let step = steps.next();
  while (step.done !== true) step = steps.next(perform(step.value));
  const blocks = members.map((bytes) =>
    [0, 1, 2, 3].map((block) => bytes[offset + block * FALLBACK_BLOCK_BYTES]!),
  );
  return { result: step.value, blocks, reported, log, control };
}

describe("a resync", () => {
  test("copies from the first source to all others", () => {
    const { result, blocks, control } = copy({ roles: [InSync, InSync, InSync], everywhere: true });
    expect(result).toBe("copied");
    expect(blocks).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect([control.readBytes, control.writtenBytes]).toEqual([LENGTH, 2 * LENGTH]);
  });

  test("takes the source by rank, not by slot", () => {
    const roles = [InSync, InSync, InSync];
    const { blocks, log } = copy({ roles, ranks: [1, 0, 2], everywhere: true });
    expect(log[0]).toBe(`read 1 0+${LENGTH}`);
    expect(blocks[0]).toEqual([1, 1, 1, 1]);
    expect(blocks[2]).toEqual([1, 1, 1, 1]);
  });

  test("whose source is lost once it was read still writes all the others", () => {
    const roles = [InSync, InSync, InSync];
    const { result, blocks } = copy({ roles, everywhere: true, losesAfterRead: 0 });
    expect(result).toBe("copied");
    expect(blocks.slice(1)).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
  });

  test("with one member left has nothing to make equal", () => {
    expect(copy({ roles: [InSync, None], everywhere: true }).result).toBe("no-targets");
  });
});

describe("a recovery", () => {
  test("writes the targets and leaves in-sync members alone", () => {
    const { result, log } = copy({ roles: [InSync, InSync, Target] });
    expect(result).toBe("copied");
    expect(log).toEqual([`read 0 0+${LENGTH}`, "write 2"]);
  });

  test("never reads a target", () => {
    const { result, log } = copy({ roles: [Target, InSync], bad: { 1: [0] } });
    expect(result).toBe("unreadable");
    expect(log.some((line) => line.startsWith("read 0"))).toBe(false);
  });
});

describe("a source that cannot be read", () => {
  test("is read by blocks; only what it cannot give comes from the next", () => {
    const { result, blocks, reported } = copy({ roles: [InSync, InSync, Target], bad: { 0: [2] } });
    expect(result).toBe("copied");
    expect(blocks[2]).toEqual([0, 0, 1, 0]);
    expect(reported).toEqual([[0, "read"]]);
  });

  test("is rewritten with what the others had", () => {
    const { blocks } = copy({ roles: [InSync, InSync, Target], bad: { 0: [2] } });
    expect(blocks[0]).toEqual([0, 0, 1, 0]);
    expect(blocks[1], "this one could be read").toEqual([1, 1, 1, 1]);
  });

  test("that is ejected for it is not written", () => {
    const { result, log } = copy({
      roles: [InSync, InSync, Target],
      bad: { 0: [2] },
      ejects: true,
    });
    expect(result).toBe("copied");
    expect(log.filter((line) => line.startsWith("write"))).toEqual(["write 2"]);
  });

  test("makes a resync write every member, for no one member holds the whole of it", () => {
    const { blocks } = copy({ roles: [InSync, InSync, InSync], everywhere: true, bad: { 0: [2] } });
    expect(blocks).toEqual([
      [0, 0, 1, 0],
      [0, 0, 1, 0],
      [0, 0, 1, 0],
    ]);
  });

  test("two of them complete one another, and both are rewritten", () => {
    const { result, blocks, reported } = copy({
      roles: [InSync, InSync],
      everywhere: true,
      bad: { 0: [1], 1: [3] },
    });
    expect(result).toBe("copied");
    expect(blocks).toEqual([
      [0, 1, 0, 0],
      [0, 1, 0, 0],
    ]);
    expect(reported).toEqual([[0, "read"]]);
  });

  test("a block that no source has is unreadable, and nothing is written anywhere", () => {
    const roles = [InSync, InSync, Target];
    const { result, log, reported } = copy({ roles, bad: { 0: [2], 1: [2] } });
    expect(result).toBe("unreadable");
    expect(log.some((line) => line.startsWith("write"))).toBe(false);
    expect(reported).toEqual([
      [0, "read"],
      [1, "read"],
    ]);
  });

  test("blocks are those of the array, whatever the range starts with", () => {
    const { log } = copy({ roles: [InSync, Target], bad: { 0: [99] }, offset: 512 });
    expect(log).toHaveLength(2);
    const fallen = copy({ roles: [InSync, InSync, Target], bad: { 0: [0] }, offset: 512 }).log;
    expect(fallen.slice(1, 4)).toEqual([
      `read 0 0+${FALLBACK_BLOCK_BYTES - 512}`,
      `read 1 0+${FALLBACK_BLOCK_BYTES - 512}`,
      `read 0 ${FALLBACK_BLOCK_BYTES - 512}+${FALLBACK_BLOCK_BYTES}`,
    ]);
  });
});

describe("a member that cannot be written", () => {
  const broken = { noSpace: false, message: "broken" };

  test("is reported; the others are written all the same", () => {
    const { result, blocks, reported, control } = copy({
      roles: [InSync, Target, Target],
      writeFails: { 1: broken },
      ejects: true,
    });
    expect(result).toBe("copied");
    expect(blocks[2]).toEqual([0, 0, 0, 0]);
    expect(reported).toEqual([[1, "write"]]);
    expect(control.writtenBytes).toBe(LENGTH);
  });

  test("was the last target", () => {
    const { result } = copy({ roles: [InSync, Target], writeFails: { 1: broken }, ejects: true });
    expect(result).toBe("no-targets");
  });

  test("for want of space makes the range be tried again", () => {
    const { result, reported } = copy({
      roles: [InSync, Target],
      writeFails: { 1: { noSpace: true, message: "full" } },
    });
    expect(result).toBe("no-space");
    expect(reported).toEqual([[1, "write"]]);
  });
});
