/**
 * The arithmetic of parity: P is the XOR of the data blocks, Q the sum of 2^exponent * data in
 * GF(2^8) with the polynomial 0x11d (as Linux md and H. P. Anvin, "The mathematics of RAID-6").
 * All blocks of one call have the same length, any number of bytes, at any alignment. Outputs
 * may not overlap inputs unless it says so.
 */
export interface Kernels {
  /**
   * A zeroed buffer that these kernels work on without copying it: about twice as fast, for what
   * is kept and used again and again. It is never given back, and there is room for 32 MiB; what
   * is asked for beyond is an ordinary buffer. Not to be transferred to another thread.
   */
  allocate(length: number): Uint8Array;
  /** into = XOR of the sources; at least one. */
  xor(into: Uint8Array, sources: readonly Uint8Array[]): void;
  /** into ^= XOR of the sources. */
  xorInto(into: Uint8Array, sources: readonly Uint8Array[]): void;
  /** p and q of the data blocks, one exponent for each. */
  pq(p: Uint8Array, q: Uint8Array, data: readonly Uint8Array[], exponents: readonly number[]): void;
  /** q ^= 2^exponent * source. */
  multiplyInto(q: Uint8Array, source: Uint8Array, exponent: number): void;
  /**
   * Fills data blocks that are lost, `data[i]` for each i of `missing` (one or two), from the
   * other data blocks and from p or q: one of them for one lost block (p where both are there),
   * both for two. What parity is lost too is null; `pq` or `xor` makes it again afterwards.
   */
  recover(
    data: readonly Uint8Array[],
    missing: readonly number[],
    p: Uint8Array | null,
    q: Uint8Array | null,
    exponents: readonly number[],
  ): void;
}
