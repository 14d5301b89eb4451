/** Socket options node:net does not have. */
import { bind } from "./libc.ts";

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const SO_ACCEPTCONN = 30;

const setsockopt = bind(
  "int setsockopt(int fd, int level, int option, void *value, uint32_t length)",
);

const getsockopt = bind("int getsockopt(int fd, int level, int option, void *value, void *length)");

/** Whether connections arrive at a descriptor; null: there is no telling. */
export function isListening(fd: number): boolean | null {
  if (getsockopt === null) return null;
  const value = new Int32Array(1);
  const length = Uint32Array.of(value.byteLength);
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, value, length) === 0 && value[0] === 1;
}

/**
 * Asks for a send buffer of `bytes` (the kernel doubles the number for its bookkeeping). Best
 * effort: past net.core.wmem_max only with CAP_NET_ADMIN, else as much as that allows.
 */
export function setSendBuffer(fd: number, bytes: number): void {
  if (setsockopt === null) return;
  const value = Int32Array.of(bytes);
  const forced = setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, value, value.byteLength);
  if (forced !== 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, value, value.byteLength);
}
