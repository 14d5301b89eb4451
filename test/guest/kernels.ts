/** The kernels that the tests boot. Each is made once and kept in a cache (scripts/guest.sh). */
export interface Kernel {
  /** As docs/reference/carried-over.md names it. */
  readonly name: string;
  /** What tells scripts/guest.sh about it. */
  readonly env: Readonly<Record<string, string>>;
  /** Bitmap kinds its md understands. */
  readonly bitmaps: readonly ("lockless" | "internal" | "none")[];
}

/** Debian 12's kernel and programs: mdadm 4.2, nbd-client 3.24. */
export const DEBIAN: Kernel = {
  name: "6.1",
  env: {},
  bitmaps: ["internal", "none"],
};

/** A kernel whose md has the lockless bitmap, and mdadm 4.6, which knows it: compiled once. */
export const LLBITMAP: Kernel = {
  name: "7.2",
  env: {
    GUEST_SUITE: "sid",
    GUEST_KERNEL_SUITE: "trixie-backports",
    GUEST_KERNEL_SOURCE: "linux-source-7.2",
  },
  bitmaps: ["lockless", "internal", "none"],
};
