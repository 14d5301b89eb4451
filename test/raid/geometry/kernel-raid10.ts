/**
 * Where the kernel puts the copies of a chunk of level 10, step by step as __raid10_find_phys in
 * raid10.c goes: a second opinion, quirks included, so that what must be refused shows.
 */
export function kernelPlaces(
  layout: number,
  slots: number,
  /** Rows of first copies: a far copy is this far below. */
  rows: number,
  chunk: number,
): [slot: number, row: number][] {
  const near = layout & 0xff;
  const far = (layout >> 8) & 0xff;
  const offset = (layout & 0x10000) !== 0;
  const set = [slots, Math.floor(slots / far), near * far][layout >> 17]!;
  const lastStart = (Math.floor(slots / set) - 1) * set;
  const lastSize = set + (slots % set);
  const places: [number, number][] = [];
  let first = (chunk * near) % slots;
  let firstRow = Math.floor((chunk * near) / slots) * (offset ? far : 1);
  for (let copy = 0; copy < near; copy++) {
    let slot = first;
    let row = firstRow;
    places.push([slot, row]);
    for (let again = 1; again < far; again++) {
      const start = Math.floor(slot / set) * set;
      slot += near;
      if (slots % set !== 0 && slot > lastStart) slot = lastStart + ((slot - lastStart) % lastSize);
      else slot = start + (slot % set);
      row += offset ? 1 : rows;
      places.push([slot, row]);
    }
    if (++first === slots) {
      first = 0;
      firstRow++;
    }
  }
  return places;
}
