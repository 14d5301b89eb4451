import { NbdRaidError } from "../errors.ts";

/** Bytes at `offset` of the members are lost, and parity is not trusted to stand in for them. */
export function unknownData(offset: number): NbdRaidError {
  const where = `at ${offset} of the members' data`;
  return new NbdRaidError("unknown-data", `what a missing member held ${where} cannot be known`);
}
