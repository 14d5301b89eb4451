import { randomBytes } from "node:crypto";
import { type Clock, systemClock } from "../clock.ts";
import { NbdRaidError } from "../errors.ts";
import { type Member, MemberError } from "../member/member.ts";
import { BITMAP_OFFSET_SECTORS } from "../metadata/layout.ts";
import { refuse } from "../metadata/refusals.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../metadata/superblock.ts";
import { timestampAt } from "../metadata/timestamp.ts";
import { formatUuid, UUID_BYTES } from "../metadata/uuid.ts";
import { findData, findSuperblocks } from "./blank.ts";
import { type CreateRequest, MISSING, REQUEST_REFUSALS } from "./create-request.ts";
import {
  absentDeviceBytes,
  encodeNewBitmap,
  encodeNewSuperblock,
  layoutOf,
  type NewArray,
  type NewDevice,
  planShape,
} from "./new-array.ts";
import { NewImages, type Preparation } from "./new-images.ts";
import { findPlace, type Place, refuseTwice } from "./places.ts";
import { settleEach } from "./settle.ts";

export interface CreatedArray {
  /** As mdadm prints it. */
  readonly uuid: string;
  readonly name: string;
  /** What clients see. */
  readonly sizeBytes: number;
  /** Absolute paths as they were asked for, "missing" where a slot stays empty. */
  readonly members: readonly string[];
}

/**
 * Makes an array, on stable storage when it resolves. Every check of every member precedes the
 * first write to any; when it fails later, files that it made are removed.
 *
 * Throws an NbdRaidError: usage, not-supported, no-space, io-error, and about a member
 * member-listed-twice, -not-file, -unreadable, -in-use, -too-small, -in-array, -not-empty.
 */
export async function createArray(
  request: CreateRequest,
  clock: Clock = systemClock,
): Promise<CreatedArray> {
  refuse("create", REQUEST_REFUSALS, request);
  const places = await findPlaces(request);
  const images = new NewImages();
  try {
    const devices = await openDevices(request, places, images);
    const array: NewArray = {
      request,
      uuid: randomUuid(),
      created: timestampAt(clock.wallTime()),
      ...planShape(devices, request),
    };
    await createOn(array, devices, images);
    return {
      uuid: array.uuid,
      name: request.name,
      sizeBytes: array.geometry.sizeBytes,
      members: request.members.map((_, number) => places.get(number)?.path ?? MISSING),
    };
  } catch (error) {
    throw operatingError(error, await images.removeMade());
  } finally {
    await images.close();
  }
}

type Places = ReadonlyMap<number, Place>;

/** By device number; a missing member has none. */
async function findPlaces(request: CreateRequest): Promise<Places> {
  const places = new Map<number, Place>();
  for (const [number, member] of request.members.entries()) {
    if (member !== MISSING) places.set(number, await findPlace(member));
  }
  refuseTwice([...places.values()]);
  return places;
}

/** Opens what exists; the rest will be made. */
async function openDevices(
  request: CreateRequest,
  places: Places,
  images: NewImages,
): Promise<NewDevice[]> {
  const writeMostly = await writeMostlyIdentities(request, places);
  return settleEach([...places], async ([devNumber, { path, identity, exists }]) => ({
    path,
    deviceBytes: exists ? (await images.open(path)).sizeBytes : absentDeviceBytes(path, request),
    devNumber,
    writeMostly: writeMostly.has(identity),
    uuid: randomUuid(),
  }));
}

async function writeMostlyIdentities(
  { writeMostly }: CreateRequest,
  places: Places,
): Promise<ReadonlySet<string>> {
  const members = new Set([...places.values()].map(({ identity }) => identity));
  const found = await settleEach(writeMostly, findPlace);
  const other = found.find(({ identity }) => !members.has(identity));
  if (other === undefined) return new Set(found.map(({ identity }) => identity));
  throw new NbdRaidError("usage", `create: write-mostly ${other.path} is not one of the members`);
}

/** Checks, makes, prepares, and writes: bitmaps first, superblocks last. */
async function createOn(array: NewArray, devices: NewDevice[], images: NewImages): Promise<void> {
  const { request } = array;
  const superblocks = devices.map((device) => encodeNewSuperblock(array, device));
  const bitmap = request.bitmap === "none" ? null : encodeNewBitmap(request.bitmap, array);
  const existing = devices.filter(({ path }) => images.isOpen(path));
  const absent = devices.filter(({ path }) => !images.isOpen(path));
  await settleEach(existing, ({ path }) => refuseContent(images.member(path), request));

  await settleEach(absent, (device) => images.make(device.path, preparationOf(device, request)));
  await settleEach(existing, (device) =>
    images.prepare(device.path, preparationOf(device, request)),
  );
  if (bitmap !== null) {
    const offset = SUPERBLOCK_OFFSET_BYTES + BITMAP_OFFSET_SECTORS * 512;
    await settleEach(devices, ({ path }) => images.member(path).writeDurable(bitmap, offset));
  }
  await settleEach(devices, ({ path }, index) =>
    images.member(path).writeDurable(superblocks[index]!, SUPERBLOCK_OFFSET_BYTES),
  );
}

/** --force takes any member; --assume-clean any that is in no array. */
async function refuseContent(member: Member, request: CreateRequest): Promise<void> {
  if (request.force) return;
  const [superblock] = await findSuperblocks(member);
  if (superblock !== undefined)
    throw new NbdRaidError(
      "member-in-array",
      `${member.path} has an md superblock at byte ${superblock}`,
    );
  const data = request.assumeClean ? null : await findData(member);
  if (data !== null)
    throw new NbdRaidError("member-not-empty", `${member.path} holds data at byte ${data}`);
}

function preparationOf(device: NewDevice, request: CreateRequest): Preparation {
  return {
    sizeBytes: device.deviceBytes,
    dataOffset: layoutOf(device, request).dataOffsetSectors * 512,
    preallocate: request.preallocate,
    keepData: request.assumeClean,
    force: request.force,
  };
}

function randomUuid(): string {
  return formatUuid(randomBytes(UUID_BYTES));
}

/** What a member reports, as an entry of the catalogue; `left` could not be removed. */
function operatingError(error: unknown, left: readonly string[]): unknown {
  if (!(error instanceof NbdRaidError || error instanceof MemberError)) return error;
  const memberCode = error instanceof MemberError && error.noSpace ? "no-space" : "io-error";
  const code = error instanceof NbdRaidError ? error.code : memberCode;
  const remains = left.length === 0 ? "" : `; remove ${left.join(", ")}`;
  return new NbdRaidError(code, `${error.message}${remains}`, { cause: error });
}
