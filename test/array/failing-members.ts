/** Members of a running machine that fail what the test picks, where a count would not do. */
import { type Member, MemberError } from "../../src/member/member.ts";
import { totalLength } from "../../src/member/vectors.ts";
import type { Machine } from "../sim/machine.ts";

type Failing = "read" | "write" | "writeDurable";

/**
 * Operations of a kind on a member fail while `fails` says so of their offset and length, in
 * bytes of the member. They have no effect.
 */
export function failWhile(
  machine: Machine,
  path: string,
  kind: Failing,
  fails: (offset: number, length: number) => boolean,
  code: "EIO" | "ENOSPC" = "EIO",
): void {
  const member: Member = machine.member(path);
  const fail = (): Promise<never> => {
    const cause = Object.assign(new Error(code), { code });
    return machine.world.sleep(1).then(() => Promise.reject(new MemberError(path, kind, cause)));
  };
  const operation = member[kind].bind(member);
  member[kind] = (bytes, offset) =>
    fails(offset, bytes.length) ? fail() : operation(bytes, offset);
  if (kind === "writeDurable") return;
  const vectored = `${kind}v` as const;
  const operationv = member[vectored].bind(member);
  member[vectored] = (buffers, offset) =>
    fails(offset, totalLength(buffers)) ? fail() : operationv(buffers, offset);
}

/** The same, of the next one alone. */
export function failOnce(
  machine: Machine,
  path: string,
  kind: Failing,
  fails: (offset: number, length: number) => boolean,
  code?: "EIO" | "ENOSPC",
): void {
  let left = 1;
  failWhile(machine, path, kind, (...range) => fails(...range) && left-- > 0, code);
}
