/** md's uuids: 16 bytes, written as mdadm prints them, "xxxxxxxx:xxxxxxxx:xxxxxxxx:xxxxxxxx". */

export const UUID_BYTES = 16;
const UUID = /^[0-9a-f]{8}(:[0-9a-f]{8}){3}$/;

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** `bytes` are the 16 of the superblock, in their order there. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return [0, 8, 16, 24].map((at) => hex.slice(at, at + 8)).join(":");
}

/** The inverse of {@link formatUuid}; `text` has passed {@link isUuid}. */
export function parseUuid(text: string): Uint8Array {
  return Buffer.from(text.replaceAll(":", ""), "hex");
}
