/**
 * The C library, through koffi. Each call that uses it lives in a file of its own here and has a
 * plain fallback for where koffi or the symbol is absent: a null {@link NativeFunction}.
 *
 * Only 64-bit Linux: there `off_t` has 64 bits and the constants used in this folder hold.
 */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";

type NativeArgument = number | bigint | NodeJS.ArrayBufferView;
type NativeCallback = (error: Error | null, result: number) => void;

/** A C function returning an integer; `async` runs it in the thread pool. */
export interface NativeFunction {
  (...values: NativeArgument[]): number;
  async(...values: [...NativeArgument[], NativeCallback]): void;
}

interface Koffi {
  load(path: null): { func(definition: string): NativeFunction };
  address(view: NodeJS.ArrayBufferView): bigint;
  errno(): number;
}

const ARCHITECTURES = new Set(["x64", "arm64", "riscv64", "loong64", "ppc64"]);

function loadKoffi(): Koffi | null {
  if (process.platform !== "linux" || !ARCHITECTURES.has(process.arch)) return null;
  try {
    return createRequire(import.meta.url)("koffi") as Koffi;
  } catch {
    return null; // not installed, or no build for this machine: the fallbacks serve
  }
}

const koffi = loadKoffi();
const library = koffi?.load(null); // the running program: its libc, whichever it is

/** Binds a C prototype, or gives null where it cannot be called. */
export function bind(definition: string): NativeFunction | null {
  try {
    return library?.func(definition) ?? null;
  } catch {
    return null; // an older libc
  }
}

/** Where the view's bytes are. Valid while the view's buffer is neither collected nor detached. */
export function addressOf(view: NodeJS.ArrayBufferView): bigint {
  return koffi?.address(view) ?? 0n;
}

/** errno of the native call that returned last on this thread (or whose callback is running). */
export function lastErrno(): number {
  return koffi?.errno() ?? 0;
}

/** The shape node:fs gives its errors: `code`, `errno`, `syscall`. */
export function systemError(syscall: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${syscall}`), { code, errno: -errno, syscall });
}

/** What a feature says where there is no native call: ENOTSUP. */
export function unsupported(syscall: string): NodeJS.ErrnoException {
  return systemError(syscall, 95);
}

/** Runs the call in the thread pool; rejects with its errno when it returns -1. */
export function callInPool(
  call: NativeFunction | null,
  syscall: string,
  ...values: NativeArgument[]
): Promise<number> {
  return new Promise((resolve, reject) => {
    if (call === null) {
      reject(unsupported(syscall));
      return;
    }
    call.async(...values, (error, result) => {
      if (error !== null) reject(error);
      else if (result === -1) reject(systemError(syscall, lastErrno()));
      else resolve(result);
    });
  });
}
