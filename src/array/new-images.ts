/** The files of an array to be made: opened, made, prepared, and removed again if it fails. */
import { realpath, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { assert } from "../errors.ts";
import { createImageFile, syncFolder } from "../member/create-file.ts";
import { FileMember } from "../member/file.ts";
import { MemberError } from "../member/member.ts";
import { allocate, isUnsupported } from "../platform/fallocate.ts";
import { findSuperblocks, zeroSuperblocks } from "./blank.ts";
import { settleAll } from "./settle.ts";

export interface Preparation {
  /** The length of the member. */
  readonly sizeBytes: number;
  /** Where the data area starts, in bytes. */
  readonly dataOffset: number;
  readonly preallocate: boolean;
  /** The data area stays as it is. */
  readonly keepData: boolean;
  /** Other superblocks, and what lies before ours, go. */
  readonly force: boolean;
}

export class NewImages {
  readonly #members = new Map<string, FileMember>();
  readonly #made: string[] = [];

  /** Opens an existing member; refusals are those of {@link FileMember.open}. */
  async open(path: string): Promise<FileMember> {
    const member = await FileMember.open(path, { readOnly: false });
    this.#members.set(path, member);
    return member;
  }

  /** Makes an image file; refusals are those of {@link createImageFile}. */
  async make(path: string, preparation: Preparation): Promise<void> {
    const { sizeBytes, dataOffset, preallocate } = preparation;
    await createImageFile(path, {
      sizeBytes,
      allocatedBytes: preallocate ? sizeBytes : dataOffset,
    });
    this.#made.push(path);
    await this.open(path);
  }

  isOpen(path: string): boolean {
    return this.#members.has(path);
  }

  member(path: string): FileMember {
    const member = this.#members.get(path);
    assert(member !== undefined, "an image is open");
    return member;
  }

  /**
   * Makes an existing member as one that was made: zeroes, with space below the data area. All
   * of it is on stable storage when it resolves, the file's name too.
   */
  async prepare(path: string, preparation: Preparation): Promise<void> {
    const member = this.member(path);
    if (preparation.keepData) await keepData(member, preparation);
    else await makeBlank(member, preparation);
    await member.sync();
    await syncFolder(dirname(await realpath(path)));
  }

  /** What existed stays. Resolves to the paths that could not be removed. */
  async removeMade(): Promise<string[]> {
    const results = await Promise.allSettled(this.#made.map((path) => rm(path, { force: true })));
    return this.#made.filter((_, index) => results[index]!.status === "rejected");
  }

  async close(): Promise<void> {
    await settleAll([...this.#members.values()].map((member) => member.close()));
  }
}

async function makeBlank(member: FileMember, preparation: Preparation): Promise<void> {
  const { sizeBytes, dataOffset, preallocate } = preparation;
  await member.zero(0, dataOffset);
  // No old superblock may outlive the data that it speaks of.
  await member.sync();
  if (preallocate) await member.zero(dataOffset, sizeBytes - dataOffset);
  else if ((await member.nextData(dataOffset, sizeBytes)) !== null)
    await member.punch(dataOffset, sizeBytes - dataOffset);
}

/** The least change: only superblocks and bitmap will be overwritten. */
async function keepData(member: FileMember, preparation: Preparation): Promise<void> {
  const { sizeBytes, dataOffset, preallocate, force } = preparation;
  if (force) {
    await zeroSuperblocks(member, [...new Set([0, ...(await findSuperblocks(member))])]);
  }
  try {
    await allocate(member.descriptor, 0, preallocate ? sizeBytes : dataOffset);
  } catch (error) {
    // Then only what is written gets space: the metadata do so now.
    if (!isUnsupported(error)) throw new MemberError(member.path, "allocate", error);
  }
}
