/**
 * Programs that we did not write, each at every place where an array can be reached. What a
 * program cannot do somewhere is run as well, and fails there by its own words. Servers are shared
 * by all cases of a security, so a case makes no assumption of what is in the array.
 *
 * @vates/nbd-client is no program but a package of npm, of the folder npm-peers and not of this
 * project: it declares xen-api ^5.0.0 and @xen-orchestra/async-map ^0.1.5, which it does not import
 * and npm need not have, and with older ones in their place it is 73 packages that nothing else
 * needs. It only reads. As it shows no certificate, it is tried also where none is asked for.
 */
import { join } from "node:path";
import { afterAll, describe, expect } from "vitest";
import type { ClientCases } from "./clients/cases.ts";
import { FIO } from "./clients/fio.cases.ts";
import { LIBNBD } from "./clients/libnbd.cases.ts";
import { NBDKIT } from "./clients/nbdkit.cases.ts";
import { KINDS, SECURITIES, Servers } from "./clients/places.ts";
import { QEMU } from "./clients/qemu.cases.ts";
import { REPLIES } from "./clients/replies.cases.ts";
import { OPTION_GO, OPTION_STRUCTURED_REPLY, tapInto } from "./clients/tap.ts";
import { VATES } from "./clients/vates.cases.ts";
import { testWith } from "./fixtures.ts";
import { dataDigest } from "./images.ts";

const servers = new Servers();
afterAll(() => servers.dispose());

const GROUPS: readonly ClientCases[] = [LIBNBD, QEMU, FIO, NBDKIT, VATES];

for (const { programs, cases, kinds = KINDS, missing = null } of GROUPS) {
  const test = testWith("openssl", ...programs);
  if (missing !== null) {
    test("clients that are no programs are installed", () => {
      throw new Error(missing);
    });
    continue;
  }
  for (const { title, run, cannot } of cases) {
    describe(title, () => {
      for (const kind of kinds) {
        const limit = cannot?.(kind) ?? null;
        if (limit === null) {
          test(`over ${kind.title}`, async () => run(await servers.placeOf(kind)));
          continue;
        }
        test(`not over ${kind.title}: ${limit.because}`, async () => {
          await expect(run(await servers.placeOf(kind))).rejects.toThrow(limit.says);
        });
      }
    });
  }
}

describe("structured replies", () => {
  for (const { program, args, note, structured } of REPLIES) {
    const asks = structured ? "asks" : "does not ask";
    testWith(
      "openssl",
      program,
      "nbdinfo",
    )(`${program} ${asks} for them: ${note}`, async () => {
      const { server, folder, run } = await servers.placeOf(KINDS[1]!);
      const socket = join(folder, "tap.sock");
      const tap = await tapInto(server.socket, socket);
      const uri = `nbd+unix:///data?socket=${socket}`;
      await run(program, ...args.map((arg) => arg.replace("URI", uri)));
      expect(tap.wasAsked(OPTION_GO)).toBe(true);
      expect(tap.wasAsked(OPTION_STRUCTURED_REPLY)).toBe(structured);
      await tap.close();
    });
  }
});

describe("after all of these clients", () => {
  const test = testWith("openssl");
  test.for(SECURITIES)("the members are equal, and the server ends well: %s", async (security) => {
    const server = await servers.serverOf(security);
    await server.stop();
    const [first, second] = await Promise.all(server.images.map((image) => dataDigest(image)));
    expect(second).toBe(first);
  });
});
