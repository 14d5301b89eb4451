/** sd_notify(3): telling the service manager how far the server is. Node has no such sockets. */
import { closeSync } from "node:fs";
import { bind } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** The length of sun_path. */
const PATH_BYTES_MAX = 108;

const socket = bind("int socket(int domain, int type, int protocol)");
const sendto = bind(
  "int64_t sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t addressLength)",
);

/**
 * Sends `state` ("READY=1", "STOPPING=1") to the socket that `address` ($NOTIFY_SOCKET) names: a
 * path, or an abstract name behind an "@". False: it could not be told.
 */
export function notify(address: string, state: string): boolean {
  const name = socketAddress(address);
  if (name === null || socket === null || sendto === null) return false;
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    const bytes = Buffer.from(state);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return sendto(fd, bytes, bytes.length, flags, name, name.length) === bytes.length;
  } finally {
    closeSync(fd);
  }
}

/** A sockaddr_un: the family in the machine's order, then the path. */
function socketAddress(address: string): Buffer | null {
  const path = Buffer.from(address.replace(/^@/, "\0"));
  if (!/^[/@]/.test(address) || path.length < 2 || path.length > PATH_BYTES_MAX) return null;
  return Buffer.concat([new Uint8Array(Uint16Array.of(AF_UNIX).buffer), path]);
}
