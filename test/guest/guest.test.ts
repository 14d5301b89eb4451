import { describe, expect, test } from "vitest";
import { deferred } from "../bitmap/fake-clock.ts";
import { Guest, inGuest } from "./guest.ts";
import { DEBIAN, LLBITMAP } from "./kernels.ts";

const KERNELS = process.env["NBD_RAID_LONG"] === "1" ? [DEBIAN, LLBITMAP] : [DEBIAN];

describe.each(KERNELS)("a guest of kernel $name", (kernel) => {
  test("runs a script and asks the host", async () => {
    const output = await inGuest('uname -r; host add "$ONE" 2; modprobe md-mod || true', {
      kernel,
      env: { ONE: 1 },
      host: { add: (a, b) => Promise.resolve(String(Number(a) + Number(b))) },
    });
    expect(output).toMatch(new RegExp(`^${kernel.name.replace(".", "\\.")}\\.`));
    expect(output.split("\n")[1]).toBe("3");
  });

  test("fails where its script fails, or the host does", async () => {
    const { status, output } = await (
      await Guest.boot("echo before; false; echo after", { kernel })
    ).ended;
    expect([status, output]).toEqual([1, "before\n"]);
    const refused = { refuse: () => Promise.reject(new Error("not today")) };
    await expect(inGuest("host refuse", { kernel, host: refused })).rejects.toThrow("not today");
  });

  test("loses its power", async () => {
    const up = deferred();
    const booted = () => Promise.resolve(up.resolve());
    const guest = await Guest.boot("host booted; sleep 600", { kernel, host: { booted } });
    await up.promise;
    await guest.cutPower();
    expect((await guest.ended).status).toBe(125);
  });
});
