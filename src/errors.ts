/**
 * Every error the program reports, in one place: a stable word, the NBD errno a client gets,
 * and what the user can do about it. `docs/reference/errors.md` has a line for each (a test
 * compares the two).
 *
 * Operating errors are thrown as {@link NbdRaidError} and handled where policy lives. A broken
 * invariant throws an ordinary Error (see {@link assert}) and stops the process before it writes.
 */

/** NBD errno values (NBD protocol, "Error values"). */
export const Errno = {
  OK: 0,
  EPERM: 1,
  EIO: 5,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];

interface CatalogueEntry {
  /** What an NBD client is told. */
  readonly errno: Errno;
  /** What the user can do next: one clause, shown after the message. */
  readonly remedy: string;
}

export const CATALOGUE = {
  // what was asked
  usage: { errno: Errno.EINVAL, remedy: "see nbd-raid --help" },
  "unknown-array": { errno: Errno.EINVAL, remedy: "nbd-raid status lists the arrays" },
  "unknown-member": { errno: Errno.EINVAL, remedy: "nbd-raid status lists the members" },
  "not-supported": { errno: Errno.ENOTSUP, remedy: "use another level or option" },
  // members as they are found
  "member-unreadable": { errno: Errno.EIO, remedy: "check the path and its permissions" },
  "member-too-small": { errno: Errno.EINVAL, remedy: "use a larger image" },
  "member-foreign": {
    errno: Errno.EINVAL,
    remedy: "give members of arrays; nbd-raid create makes one",
  },
  "member-not-empty": {
    errno: Errno.EINVAL,
    remedy: "blank it (truncate -s 0, then -s SIZE), or create --force",
  },
  "member-in-array": {
    errno: Errno.EINVAL,
    remedy: "examine shows it; zero-superblock or create --force drops it",
  },
  "member-in-use": { errno: Errno.EINVAL, remedy: "stop the server that has it open" },
  "member-listed-twice": { errno: Errno.EINVAL, remedy: "name each member once" },
  "member-not-file": { errno: Errno.EINVAL, remedy: "use image files or block devices" },
  "no-members": {
    errno: Errno.EINVAL,
    remedy: "make an array there: nbd-raid create, or NBD_RAID_CREATE if it is empty",
  },
  "directory-denied": { errno: Errno.EPERM, remedy: "chown it to that user, or mount it writable" },
  "superblock-corrupt": {
    errno: Errno.EIO,
    remedy: "leave it out, then add a blank image in its place",
  },
  "superblock-unsupported": {
    errno: Errno.ENOTSUP,
    remedy: "use the program that made it; the project's docs/how-to/md-migration.md has ways over",
  },
  "bitmap-corrupt": {
    errno: Errno.EIO,
    remedy: "leave it out, then add a blank image in its place",
  },
  // arrays as they are assembled
  "array-mismatch": { errno: Errno.EINVAL, remedy: "give the members of one array" },
  "array-name-clash": { errno: Errno.EINVAL, remedy: "serve the two arrays apart" },
  "member-clash": { errno: Errno.EINVAL, remedy: "give one of the two" },
  "split-brain": { errno: Errno.EIO, remedy: "start with one of the two, then add the other" },
  "member-missing": { errno: Errno.EIO, remedy: "give it too, or start without it: --run" },
  "dirty-degraded": {
    errno: Errno.EIO,
    remedy: "give the missing members too, or accept that some data may be lost: --force",
  },
  "array-incomplete": { errno: Errno.EIO, remedy: "give more members" },
  "array-not-ready": {
    errno: Errno.EINVAL,
    remedy: "serve it until it is whole and synced, stop the server, and give all members",
  },
  "never-written": { errno: Errno.EINVAL, remedy: "write to all of it first, if only zeroes" },
  "bitmap-no-room": { errno: Errno.EINVAL, remedy: "convert to --bitmap none" },
  // a running array
  "re-add-refused": { errno: Errno.EINVAL, remedy: "nbd-raid add copies it in full" },
  "last-member": { errno: Errno.EINVAL, remedy: "add another member first" },
  "member-busy": { errno: Errno.EINVAL, remedy: "fail it first, or wait" },
  "sync-busy": { errno: Errno.EINVAL, remedy: "wait for it, or stop it: nbd-raid idle" },
  "sync-failed": { errno: Errno.EIO, remedy: "nbd-raid status says what to do" },
  "array-failed": { errno: Errno.EIO, remedy: "repair the storage, then restart the server" },
  "read-only": { errno: Errno.EPERM, remedy: "serve without --read-only" },
  "unknown-data": {
    errno: Errno.EIO,
    remedy: "nbd-raid repair takes what parity says, which may be wrong there",
  },
  "io-error": { errno: Errno.EIO, remedy: "check the storage behind it" },
  "no-space": { errno: Errno.ENOSPC, remedy: "free space on the members' file systems" },
  "shutting-down": { errno: Errno.ESHUTDOWN, remedy: "start the server again" },
  // servers and sockets
  "address-in-use": { errno: Errno.EINVAL, remedy: "choose another with --listen or --metrics" },
  "address-invalid": {
    errno: Errno.EINVAL,
    remedy: "nbd://HOST:PORT or nbd+unix:///?socket=PATH; HOST:PORT for --metrics",
  },
  "descriptor-invalid": {
    errno: Errno.EINVAL,
    remedy: "pass listening TCP or Unix stream sockets (systemd: ListenStream=, Accept=no)",
  },
  "tls-invalid": { errno: Errno.EINVAL, remedy: "correct the certificates or keys" },
  "control-in-use": { errno: Errno.EINVAL, remedy: "another server has it; choose with --control" },
  "control-denied": { errno: Errno.EPERM, remedy: "run it as the user that runs the server" },
  "no-server": { errno: Errno.EINVAL, remedy: "start one with nbd-raid serve, or use --control" },
  "config-invalid": { errno: Errno.EINVAL, remedy: "correct the file or its path" },
  // the program itself
  internal: { errno: Errno.EIO, remedy: "this is a bug: please report it" },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof CATALOGUE;

/** An operating error: has a stable `code`, an NBD `errno`, and a `remedy` in words. */
export class NbdRaidError extends Error {
  readonly code: ErrorCode;

  /** `message` says what and which object, in one line; the remedy comes from the catalogue. */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "NbdRaidError";
    this.code = code;
  }

  get errno(): Errno {
    return CATALOGUE[this.code].errno;
  }

  get remedy(): string {
    return CATALOGUE[this.code].remedy;
  }
}

/** The errno an NBD client gets for anything thrown: EIO unless the catalogue says otherwise. */
export function errnoOf(error: unknown): Errno {
  return error instanceof NbdRaidError ? error.errno : Errno.EIO;
}

/** A broken invariant is a bug: better to stop than to write. Stays on in production. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${invariant}`);
}
