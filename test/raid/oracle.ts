/**
 * An independent writer and reader of md arrays: what the data area of every member must hold for
 * given bytes of the array, parity included; whether given members agree with each other; and what
 * an array reads when members are lost. Slow and plain on purpose.
 */
import { inverse, powerOfTwo, productsOf } from "./oracle-field.ts";
import {
  arrayBytes,
  isParity,
  type OracleShape,
  parityRow,
  pieceBytes,
  placesOf,
  type Row,
} from "./oracle-placement.ts";

/** By slot, the data area of a member; null where it is lost. */
export type Images = readonly (Uint8Array | null)[];

/** The data areas of all members of an array that holds these bytes. */
export function writeImages(shape: OracleShape, bytes: Uint8Array): Buffer[] {
  const { level, chunkBytes, componentBytes, raidDisks, dataBytes } = shape;
  const lengths = level > 0 ? Array<number>(raidDisks).fill(componentBytes) : dataBytes;
  const images = lengths.map((length) => Buffer.alloc(length));
  for (const { at, end } of pieces(shape, 0, bytes.length)) {
    for (const { slot, offset } of placesOf(shape, at)) {
      images[slot]!.set(bytes.subarray(at, end), offset);
    }
  }
  if (!isParity(shape)) return images;
  for (let stripe = 0; stripe * chunkBytes < usedBytes(shape); stripe++) {
    const row = parityRow(shape, stripe);
    const start = stripe * chunkBytes;
    const part = (slot: number): Buffer => images[slot]!.subarray(start, start + chunkBytes);
    part(row.p).set(xorOf(row.data.map(part)));
    if (row.q !== null) part(row.q).set(syndrome(row.data.map(part), row.exponents));
  }
  return images;
}

/**
 * Where members contradict each other in [start, end) of the tracked bytes. Null: nowhere. Members that
 * are lost are not asked: they may hold anything.
 */
export function contradiction(
  shape: OracleShape,
  images: Images,
  start = 0,
  end = trackedBytes(shape),
): string | null {
  return isParity(shape)
    ? wrongParity(shape, images, start, end)
    : unequalCopies(shape, images, start, end);
}

/** Numbers of the stripes (levels 4, 5, 6) or chunks (1, 10: of copies) that contradict themselves. */
export function check(shape: OracleShape, images: Images): number[] {
  const unit = shape.chunkBytes === 0 ? 4096 : shape.chunkBytes;
  const end = trackedBytes(shape);
  const bad: number[] = [];
  for (let start = 0; start < end; start += unit) {
    const found = contradiction(shape, images, start, Math.min(end, start + unit));
    if (found !== null) bad.push(start / unit);
  }
  return bad;
}

/** What a client reads. Throws where more is lost than the level bears. */
export function readArray(shape: OracleShape, images: Images): Buffer {
  const whole = isParity(shape) ? withLostFilled(shape, images) : images;
  const bytes = Buffer.alloc(arrayBytes(shape));
  for (const { at, end } of pieces(shape, 0, bytes.length)) {
    const place = placesOf(shape, at).find(({ slot }) => whole[slot] !== null);
    if (place === undefined) throw new Error(`byte ${at} of the array is lost`);
    bytes.set(whole[place.slot]!.subarray(place.offset, place.offset + end - at), at);
  }
  return bytes;
}

// ---- levels 1 and 10

function unequalCopies(
  shape: OracleShape,
  images: Images,
  start: number,
  end: number,
): string | null {
  for (const piece of pieces(shape, start, end)) {
    const copies = placesOf(shape, piece.at).flatMap(({ slot, offset }) => {
      const image = images[slot];
      return image == null
        ? []
        : [{ slot, bytes: image.subarray(offset, offset + piece.end - piece.at) }];
    });
    const [first, ...others] = copies;
    const other = others.find(({ bytes }) => Buffer.compare(bytes, first!.bytes) !== 0);
    if (other === undefined) continue;
    return `byte ${piece.at} of the array: slots ${first!.slot} and ${other.slot} differ`;
  }
  return null;
}

// ---- levels 4, 5 and 6

function wrongParity(shape: OracleShape, images: Images, start: number, end: number) {
  const { chunkBytes } = shape;
  for (let at = start; at < end;) {
    const stripe = Math.floor(at / chunkBytes);
    const next = Math.min(end, (stripe + 1) * chunkBytes);
    const parts = images.map((image) => image?.subarray(at, next) ?? null);
    const row = parityRow(shape, stripe);
    const lost = parts.filter((part) => part === null).length;
    const parityDisks = row.q === null ? 1 : 2;
    // As many unknowns as equations: nothing left to contradict.
    if (lost < parityDisks) {
      const whole = solveStripe(row, parts);
      const data = row.data.map((slot) => whole[slot]!);
      if (!equal(xorOf(data), whole[row.p]!)) return `stripe ${stripe}: P is wrong`;
      if (row.q !== null && !equal(syndrome(data, row.exponents), whole[row.q]!)) {
        return `stripe ${stripe}: Q is wrong`;
      }
    }
    at = next;
  }
  return null;
}

function withLostFilled(shape: OracleShape, images: Images): Buffer[] {
  const { chunkBytes } = shape;
  const whole = images.map((image) => Buffer.from(image ?? Buffer.alloc(usedBytes(shape))));
  for (let start = 0; start < usedBytes(shape); start += chunkBytes) {
    const parts = images.map((image) => image?.subarray(start, start + chunkBytes) ?? null);
    const solved = solveStripe(parityRow(shape, start / chunkBytes), parts);
    for (const [slot, part] of solved.entries()) whole[slot]!.set(part, start);
  }
  return whole;
}

/** One stripe with nothing lost any more. Throws if too much is. */
function solveStripe(row: Row, parts: readonly (Uint8Array | null)[]): Uint8Array[] {
  if (!parts.includes(null)) return parts as Uint8Array[];
  const whole = [...parts];
  const lost = [...row.data.keys()].filter((i) => parts[row.data[i]!] === null);
  const length = parts.find((part) => part !== null)!.length;
  const zero = new Uint8Array(length);
  const known = row.data.map((slot) => parts[slot] ?? zero);
  const p = parts[row.p] ?? null;
  const q = row.q === null ? null : (parts[row.q] ?? null);
  // What the lost data adds up to, in P and in Q.
  const inP = p === null ? null : xorOf([p, xorOf(known)]);
  const inQ = q === null ? null : xorOf([q, syndrome(known, row.exponents)]);
  const [one, other] = lost;
  if (lost.length === 1 && inP !== null) {
    whole[row.data[one!]!] = inP;
  } else if (lost.length === 1 && inQ !== null) {
    whole[row.data[one!]!] = scaled(inQ, inverse(powerOfTwo(row.exponents[one!]!)));
  } else if (lost.length === 2 && inP !== null && inQ !== null) {
    // a + b = inP and x*a + y*b = inQ: then a = (inQ + y*inP) / (x + y).
    const x = powerOfTwo(row.exponents[one!]!);
    const y = powerOfTwo(row.exponents[other!]!);
    const a = scaled(xorOf([inQ, scaled(inP, y)]), inverse(x ^ y));
    whole[row.data[one!]!] = a;
    whole[row.data[other!]!] = xorOf([inP, a]);
  } else if (lost.length > 0) {
    throw new Error("more is lost of a stripe than its parity makes good");
  }
  const data = row.data.map((slot) => whole[slot]!);
  whole[row.p] ??= xorOf(data);
  if (row.q !== null) whole[row.q] ??= syndrome(data, row.exponents);
  return whole.map((part) => part!);
}

// ---- arithmetic of blocks

/** P: the XOR of blocks of equal length. */
export function xorOf(blocks: readonly Uint8Array[]): Uint8Array {
  const sum = new Uint8Array(blocks[0]!.length);
  for (const block of blocks) {
    for (let at = 0; at < sum.length; at++) sum[at]! ^= block[at]!;
  }
  return sum;
}

/** Q: each block times its power of two, summed. */
export function syndrome(blocks: readonly Uint8Array[], exponents: readonly number[]): Uint8Array {
  return xorOf(blocks.map((block, index) => scaled(block, powerOfTwo(exponents[index]!))));
}

function scaled(block: Uint8Array, factor: number): Uint8Array {
  const products = tables[factor] ?? (tables[factor] = productsOf(factor));
  return block.map((byte) => products[byte]!);
}

const tables: Uint8Array[] = [];

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

// ---- ranges

/** What the array uses of each member, levels above 0. */
export function usedBytes({ level, chunkBytes, componentBytes }: OracleShape): number {
  return level === 1 ? componentBytes : componentBytes - (componentBytes % chunkBytes);
}

/** What md's bitmap would count in: bytes of a member on levels 1, 4, 5 and 6, else of the array. */
export function trackedBytes(shape: OracleShape): number {
  return shape.level === 1 || isParity(shape) ? usedBytes(shape) : arrayBytes(shape);
}

/** [start, end) of the array in parts that each lie in one piece on a member. */
function* pieces(
  shape: OracleShape,
  start: number,
  end: number,
): Iterable<{ at: number; end: number }> {
  const unit = pieceBytes(shape);
  for (let at = start; at < end;) {
    const next = Math.min(end, (Math.floor(at / unit) + 1) * unit);
    yield { at, end: next };
    at = next;
  }
}
