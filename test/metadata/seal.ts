/**
 * Makes the checksum of a changed superblock right again: md's calc_sb_1_csum once more, in
 * big integers, as a second opinion.
 */
export function reseal(bytes: Uint8Array): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  buffer.writeUInt32LE(0, 216);
  let left = 256 + 2 * buffer.readUInt32LE(220);
  let sum = 0n;
  for (let at = 0; left >= 4; at += 4, left -= 4) sum += BigInt(buffer.readUInt32LE(at));
  if (left === 2) sum += BigInt(buffer.readUInt16LE(256 + 2 * buffer.readUInt32LE(220) - 2));
  buffer.writeUInt32LE(Number(BigInt.asUintN(32, (sum & 0xffff_ffffn) + (sum >> 32n))), 216);
}
