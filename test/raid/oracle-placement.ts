/**
 * Where md puts data: the slow and obvious form, chunk by chunk, straight from md's own formulas
 * (raid5_compute_sector of raid5.c, __raid10_find_phys and setup_geo of raid10.c, map_sector of
 * raid0.c). It shares nothing with the program, so that each can show the other to be wrong.
 * Offsets and lengths are bytes; a slot's are counted from the start of its data area.
 */

/** What decides where data lies; level and layout are md's numbers. */
export interface OracleShape {
  readonly level: number;
  readonly layout: number;
  readonly chunkBytes: number;
  readonly raidDisks: number;
  /** Used of each member; not looked at on levels 0 and linear. */
  readonly componentBytes: number;
  /** By slot, the length of the data area: levels 0 and linear use all of it. */
  readonly dataBytes: readonly number[];
}

export interface Place {
  readonly slot: number;
  readonly offset: number;
}

/** What the slots of one stripe of levels 4, 5 and 6 hold. */
export interface Row {
  readonly p: number;
  /** Null: levels 4 and 5. */
  readonly q: number | null;
  /** By number of the data chunk: its slot. */
  readonly data: readonly number[];
  /** By number of the data chunk: Q is the sum of 2^exponent * data. */
  readonly exponents: readonly number[];
}

const LINEAR = -1;
export const RAID0_ORIGINAL = 1;

export const isParity = ({ level }: OracleShape): boolean => [4, 5, 6].includes(level);

/** Members that can be lost, whichever they are. */
export function anyLost({ level, layout, raidDisks }: OracleShape): number {
  if (level === 1) return raidDisks - 1;
  if (level === 10) return nearCopies(layout) * farCopies(layout) - 1;
  return { 4: 1, 5: 1, 6: 2 }[level] ?? 0;
}

/** True if every byte of the array is on, or follows from, the slots that `has` names. */
export function survives(shape: OracleShape, has: (slot: number) => boolean): boolean {
  const slots = Array.from({ length: shape.raidDisks }, (_, slot) => slot);
  const lost = slots.filter((slot) => !has(slot)).length;
  if (shape.level !== 10) return lost <= anyLost(shape);
  for (let offset = 0; offset < arrayBytes(shape); offset += shape.chunkBytes) {
    if (!placesOf(shape, offset).some(({ slot }) => has(slot))) return false;
  }
  return true;
}

export function dataDisks({ level, raidDisks }: OracleShape): number {
  return raidDisks - (level === 6 ? 2 : 1);
}

/** What clients see. */
export function arrayBytes(shape: OracleShape): number {
  const { level, layout, chunkBytes, raidDisks, componentBytes, dataBytes } = shape;
  if (level === 1) return componentBytes;
  if (level === LINEAR || level === 0) {
    return dataBytes.reduce((sum, bytes) => sum + roundDown(bytes, chunkBytes), 0);
  }
  const chunks = Math.floor(componentBytes / chunkBytes);
  if (isParity(shape)) return chunks * dataDisks(shape) * chunkBytes;
  const rows = Math.floor(chunks / farCopies(layout));
  return Math.floor((rows * raidDisks) / nearCopies(layout)) * chunkBytes;
}

/** A range of the array at most this long, from a multiple of it on, is in one piece everywhere. */
export function pieceBytes({ level, chunkBytes }: OracleShape): number {
  if (level === 1) return 64 * 1024;
  // Linear may have no chunk: any length will do that sizes of members are multiples of.
  return level === LINEAR ? 512 : chunkBytes;
}

/** Every place that a byte of the array is copied to; the data's own place only, with parity. */
export function placesOf(shape: OracleShape, offset: number): Place[] {
  const { level, chunkBytes, raidDisks } = shape;
  if (level === 1) return Array.from({ length: raidDisks }, (_, slot) => ({ slot, offset }));
  if (level === LINEAR) return [linearPlace(shape, offset)];
  if (level === 0) return [raid0Place(shape, offset)];
  const chunk = Math.floor(offset / chunkBytes);
  const inside = offset % chunkBytes;
  if (level === 10) {
    return raid10Places(shape, chunk).map((at) => ({ slot: at.slot, offset: at.offset + inside }));
  }
  const stripe = Math.floor(chunk / dataDisks(shape));
  const slot = parityRow(shape, stripe).data[chunk % dataDisks(shape)]!;
  return [{ slot, offset: stripe * chunkBytes + inside }];
}

/** By slot and chunk of the member: the chunk of the array of which a copy lies there (level 10). */
export function chunksBySlot(shape: OracleShape): number[][] {
  const chunks: number[][] = Array.from({ length: shape.raidDisks }, () => []);
  for (let chunk = 0; chunk * shape.chunkBytes < arrayBytes(shape); chunk++) {
    for (const { slot, offset } of raid10Places(shape, chunk)) {
      chunks[slot]![offset / shape.chunkBytes] = chunk;
    }
  }
  return chunks;
}

// ---- linear and level 0

function linearPlace({ dataBytes, chunkBytes }: OracleShape, offset: number): Place {
  let start = 0;
  for (const [slot, bytes] of dataBytes.entries()) {
    const used = roundDown(bytes, chunkBytes);
    if (offset < start + used) return { slot, offset: offset - start };
    start += used;
  }
  throw new Error(`byte ${offset} is beyond the array`);
}

/** Zone by zone: a zone ends where its shortest member ends, and the next has the longer ones. */
function raid0Place({ layout, chunkBytes, dataBytes }: OracleShape, offset: number): Place {
  const sizes = dataBytes.map((bytes) => roundDown(bytes, chunkBytes));
  let zoneStart = 0;
  let deviceStart = 0;
  for (;;) {
    const slots = [...sizes.keys()].filter((slot) => sizes[slot]! > deviceStart);
    if (slots.length === 0) throw new Error(`byte ${offset} is beyond the array`);
    const deviceEnd = Math.min(...slots.map((slot) => sizes[slot]!));
    const zoneBytes = (deviceEnd - deviceStart) * slots.length;
    if (offset < zoneStart + zoneBytes) {
      const inZone = offset - zoneStart;
      const counted = layout === RAID0_ORIGINAL ? offset : inZone;
      const slot = slots[Math.floor(counted / chunkBytes) % slots.length]!;
      const row = Math.floor(inZone / chunkBytes / slots.length);
      return { slot, offset: deviceStart + row * chunkBytes + (offset % chunkBytes) };
    }
    zoneStart += zoneBytes;
    deviceStart = deviceEnd;
  }
}

// ---- level 10

const nearCopies = (layout: number): number => layout & 0xff;
const farCopies = (layout: number): number => (layout >> 8) & 0xff;
const isOffset = (layout: number): boolean => (layout & 0x10000) !== 0;

/** md's `use_far_sets`: 0 as ever, 1 with a mistake in it, 2 as it was meant. */
function farSetSize({ layout, raidDisks }: OracleShape): number {
  const copies = nearCopies(layout) * farCopies(layout);
  return [raidDisks, Math.floor(raidDisks / farCopies(layout)), copies][layout >> 17]!;
}

export function raid10Places(shape: OracleShape, chunk: number): Place[] {
  const { layout, raidDisks, chunkBytes } = shape;
  const near = nearCopies(layout);
  const far = farCopies(layout);
  const stride = isOffset(layout) ? chunkBytes : farStride(shape);
  const places: Place[] = [];
  for (let copy = 0; copy < near; copy++) {
    const index = chunk * near + copy;
    // Near copies go on in the next row where this one ends; offset layouts repeat whole rows.
    const rowOfFirst = Math.floor((chunk * near) / raidDisks) * (isOffset(layout) ? far : 1);
    const wraps = Math.floor(index / raidDisks) - Math.floor((chunk * near) / raidDisks);
    let slot = index % raidDisks;
    let offset = (rowOfFirst + wraps) * chunkBytes;
    places.push({ slot, offset });
    for (let repeat = 1; repeat < far; repeat++) {
      slot = nextInFarSet(shape, slot);
      offset += stride;
      places.push({ slot, offset });
    }
  }
  return places;
}

/** How far apart on a member the sections are that hold its first, second, ... far copies. */
function farStride(shape: OracleShape): number {
  const { layout, raidDisks, chunkBytes } = shape;
  const copies = nearCopies(layout) * farCopies(layout);
  const arrayChunks = arrayBytes(shape) / chunkBytes;
  const usedChunks = Math.ceil((arrayChunks * copies) / raidDisks);
  return Math.floor(usedChunks / farCopies(layout)) * chunkBytes;
}

/** The last set takes the slots that are left over. */
function nextInFarSet(shape: OracleShape, slot: number): number {
  const { raidDisks, layout } = shape;
  const size = farSetSize(shape);
  const rest = raidDisks % size;
  const lastStart = (Math.floor(raidDisks / size) - 1) * size;
  const next = slot + nearCopies(layout);
  if (rest > 0 && next > lastStart) return lastStart + ((next - lastStart) % (size + rest));
  return Math.floor(slot / size) * size + (next % size);
}

// ---- levels 4, 5 and 6

/** What the slots of stripe number `stripe` hold. */
export function parityRow(shape: OracleShape, stripe: number): Row {
  return shape.level === 6 ? raid6Row(shape, stripe) : raid5Row(shape, stripe);
}

function raid5Row(shape: OracleShape, stripe: number): Row {
  const { level, layout, raidDisks: n } = shape;
  const dd = dataDisks(shape);
  const numbers = [...Array(dd).keys()];
  const row = (p: number, slotOf: (i: number) => number): Row => {
    return { p, q: null, data: numbers.map(slotOf), exponents: numbers };
  };
  const left = dd - (stripe % n);
  const right = stripe % n;
  const past = (p: number) => (i: number) => (i >= p ? i + 1 : i);
  const after = (p: number) => (i: number) => (p + 1 + i) % n;
  if (level === 4) return row(n - 1, (i) => i);
  switch (layout) {
    case 0:
      return row(left, past(left));
    case 1:
      return row(right, past(right));
    case 2:
      return row(left, after(left));
    case 3:
      return row(right, after(right));
    case 4:
      return row(0, (i) => i + 1);
    case 5:
      return row(n - 1, (i) => i);
  }
  throw new Error(`level 5 has no layout ${layout}`);
}

function raid6Row(shape: OracleShape, stripe: number): Row {
  const { layout, raidDisks: n } = shape;
  const numbers = [...Array(n - 2).keys()];
  const row = (p: number, q: number, slotOf: (i: number) => number): Row => {
    const data = numbers.map(slotOf);
    const exponents = data.map((slot) => syndromeNumber(layout, n, p, q, slot));
    return { p, q, data, exponents };
  };
  const left = n - 1 - (stripe % n);
  const right = stripe % n;
  const restart = n - 1 - ((stripe + 1) % n);
  // P at the end: Q wraps to slot 0. Otherwise the data goes around both.
  const asymmetric = (p: number): Row => {
    if (p === n - 1) return row(p, 0, (i) => i + 1);
    return row(p, p + 1, (i) => (i >= p ? i + 2 : i));
  };
  const symmetric = (p: number): Row => row(p, (p + 1) % n, (i) => (p + 2 + i) % n);
  switch (layout) {
    case 0:
      return asymmetric(left);
    case 1:
      return asymmetric(right);
    case 2:
      return symmetric(left);
    case 3:
      return symmetric(right);
    case 4:
      return row(0, 1, (i) => i + 2);
    case 5:
      return row(n - 2, n - 1, (i) => i);
    case 8:
      return asymmetric(right);
    case 9:
      return asymmetric(restart);
    case 10:
      return row(left, (left + n - 1) % n, (i) => (left + 1 + i) % n);
  }
  throw new Error(`level 6 has no layout ${layout}`);
}

/** md's own layouts count the data from the slot after Q on; those of DDF count all slots from 0. */
function syndromeNumber(layout: number, n: number, p: number, q: number, slot: number): number {
  if (layout >= 8) return slot;
  let number = 0;
  for (let at = (q + 1) % n; at !== slot; at = (at + 1) % n) {
    if (at !== p && at !== q) number++;
  }
  return number;
}

function roundDown(bytes: number, unit: number): number {
  return unit === 0 ? bytes : bytes - (bytes % unit);
}
