import type { CopiesGeometry } from "./geometry/geometry.ts";

/** Tracked bytes that lie in several places, each of them whole in every place. */
export interface Copies {
  /** Tracked bytes. */
  readonly offset: number;
  readonly length: number;
  /** On different slots; offsets are bytes of the data area. */
  readonly places: readonly { readonly slot: number; readonly offset: number }[];
}

/** The tracked bytes [offset, offset + length), in their order, cut where they must be. */
export type Placement = (offset: number, length: number) => Copies[];

/** Level 1: every slot holds everything, at the same offset. */
export function mirrorPlacement(raidDisks: number): Placement {
  return (offset, length) => {
    const places = Array.from({ length: raidDisks }, (_, slot) => ({ slot, offset }));
    return [{ offset, length, places }];
  };
}

/** Level 10: tracked bytes are the array's, and every chunk has places of its own. */
export function chunkPlacement(geometry: CopiesGeometry): Placement {
  const { chunkBytes } = geometry;
  return (offset, length) => {
    const copies: Copies[] = [];
    for (let at = offset; at < offset + length;) {
      const chunk = Math.floor(at / chunkBytes);
      const within = at - chunk * chunkBytes;
      const stop = Math.min(offset + length, (chunk + 1) * chunkBytes);
      const places = geometry
        .locate(chunk)
        .map((extent) => ({ slot: extent.slot, offset: extent.offset + within }));
      copies.push({ offset: at, length: stop - at, places });
      at = stop;
    }
    return copies;
  };
}
