/** Requests that a well-behaved client never sends, as Python for nbdsh's connected handle `h`. */

/** Switches libnbd's own checks off, and defines `size` and `refused(errnos, call, *arguments)`. */
export const REFUSED = `
import errno
h.set_strict_mode(0)
size = h.get_size()
def refused(expected, call, *args, **keywords):
    try:
        call(*args, **keywords)
    except nbd.Error as error:
        assert error.errnum in expected, (error.errnum, str(error))
    else:
        raise AssertionError("was not refused")
`;

/** Each must be refused with the errno of the NBD specification ("Error values"). */
export const ILLEGAL_REQUESTS: readonly [name: string, script: string][] = [
  ["a read past the end", "refused([errno.EINVAL], h.pread, 512, size)"],
  ["a read across the end", "refused([errno.EINVAL], h.pread, 1024, size - 512)"],
  ["a read at the largest offset", "refused([errno.EINVAL], h.pread, 512, 2**63 - 1)"],
  ["a write past the end", "refused([errno.ENOSPC], h.pwrite, bytes(512), size)"],
  ["a write across the end", "refused([errno.ENOSPC], h.pwrite, bytes(1024), size - 512)"],
  ["a trim across the end", "refused([errno.EINVAL], h.trim, 1024, size - 512)"],
  ["zeroes across the end", "refused([errno.ENOSPC], h.zero, 1024, size - 512)"],
  ["a prefetch across the end", "refused([errno.EINVAL], h.cache, 1024, size - 512)"],
  ["an unknown flag on a read", "refused([errno.EINVAL], h.pread, 512, 0, flags=1 << 15)"],
  ["an unknown flag on a write", "refused([errno.EINVAL], h.pwrite, b'x', 0, flags=1 << 15)"],
  ["an unknown flag on a flush", "refused([errno.EINVAL], h.flush, flags=1 << 15)"],
  ["an unknown flag on a trim", "refused([errno.EINVAL], h.trim, 512, 0, flags=1 << 15)"],
  ["FAST_ZERO of too few bytes", "refused([errno.ENOTSUP], h.zero, 512, 0, flags=16)"],
  [
    "a read above the largest block",
    "refused([errno.EINVAL, errno.EOVERFLOW], h.pread, 33 << 20, 0)",
  ],
  ["a write above the largest block", "refused([errno.EINVAL], h.pwrite, bytes(33 << 20), 0)"],
];
