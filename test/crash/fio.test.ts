/** fio verifies what it wrote while a member fails and comes back. */
import { expect } from "vitest";
import { testWith } from "../interop/fixtures.ts";
import { MIB, isLong, seeded, sleep, Subject } from "./rounds.ts";

const test = testWith("fio");

const LOOPS = isLong ? 100 : 6;

test("fio verifies its writes while a member fails and is re-added", async ({ serve }) => {
  const server = await serve({ size: "128M" });
  const subject = new Subject(server, 128 * MIB, seeded().random);
  const job = ["--name=job", "--ioengine=nbd", `--uri=${server.uri}`, "--size=64M"];
  const writes = ["--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16", `--loops=${LOOPS}`];
  const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
  let running = true;
  const fio = server.run("fio", ...job, ...writes, ...verify).finally(() => (running = false));
  let returns = 0;
  while (running) {
    for (const verb of ["fail", "remove", "re-add"]) {
      await server.ok(verb, "data", verb === "re-add" ? server.images[1]! : "1");
      await sleep(100);
    }
    await subject.control.wait("data");
    returns++;
  }
  await fio;
  expect(returns).toBeGreaterThan(0);
  await subject.expectSynced();
});
