/**
 * md's 64-bit times (ctime, utime): the low 40 bits are Unix seconds, the high 24 microseconds.
 */
export interface Timestamp {
  readonly seconds: number;
  readonly microseconds: number;
}

const SECONDS_BITS = 40;
const SECONDS_MAX = 2 ** SECONDS_BITS - 1;
const MICROSECONDS_MAX = 2 ** 24 - 1;

/**
 * The time to write for a clock that says `unixMilliseconds`. Its microseconds are never 0: md
 * writes whole seconds, so a time of ours is never taken for one of md's (see known-zero.ts).
 */
export function timestampAt(unixMilliseconds: number): Timestamp {
  const seconds = Math.floor(unixMilliseconds / 1000);
  const microseconds = Math.floor((unixMilliseconds - seconds * 1000) * 1000);
  return { seconds, microseconds: Math.max(microseconds, 1) };
}

export function timestampsEqual(one: Timestamp, other: Timestamp): boolean {
  return one.seconds === other.seconds && one.microseconds === other.microseconds;
}

export function isTimestamp({ seconds, microseconds }: Timestamp): boolean {
  return (
    Number.isInteger(seconds) &&
    seconds >= 0 &&
    seconds <= SECONDS_MAX &&
    Number.isInteger(microseconds) &&
    microseconds >= 0 &&
    microseconds <= MICROSECONDS_MAX
  );
}

export function packTimestamp({ seconds, microseconds }: Timestamp): bigint {
  return (BigInt(microseconds) << BigInt(SECONDS_BITS)) | BigInt(seconds);
}

export function unpackTimestamp(packed: bigint): Timestamp {
  return {
    seconds: Number(BigInt.asUintN(SECONDS_BITS, packed)),
    microseconds: Number(packed >> BigInt(SECONDS_BITS)),
  };
}
