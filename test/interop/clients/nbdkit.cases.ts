/** nbdkit's nbd plugin is a client, and serves others what it reads. */
import { expect } from "vitest";
import { dataDigest, digest } from "../images.ts";
import { type ClientCases, randomFile } from "./cases.ts";
import { type Place, SIZE } from "./places.ts";

/** Runs a command of the shell, to which "$uri" is the array as the plugin serves it. */
const through = (place: Place, command: string, ...more: string[]) =>
  place.run("nbdkit", "--unix", "-", "nbd", ...place.nbdkit, ...more, "--run", command);

export const NBDKIT: ClientCases = {
  programs: ["nbdkit", "nbdcopy", "nbdsh", "cmp"],
  cases: [
    {
      title: "nbdcopy writes and reads through nbdkit's nbd plugin",
      run: async (place) => {
        const source = await randomFile(place.folder);
        const copies = `nbdcopy --flush ${source} "$uri" && nbdcopy "$uri" back.img`;
        await through(place, copies, "shared=true");
        await place.run("cmp", source, "back.img");
        for (const image of place.server.images) {
          expect(await dataDigest(image, SIZE)).toBe(await digest(source));
        }
      },
    },
    {
      title: "nbdsh writes, zeroes, trims and maps through nbdkit's nbd plugin",
      run: async (place) => {
        const script = `
h.add_meta_context("base:allocation")
h.connect_uri(uri)
h.trim(h.get_size(), 0)
h.pwrite(b"\\x07" * 65536, 4096, flags=nbd.CMD_FLAG_FUA)
h.zero(4096, 8192)
h.flush()
assert h.pread(12288, 4096) == b"\\x07" * 4096 + bytes(4096) + b"\\x07" * 4096
extents = []
h.block_status(1 << 20, 1 << 20, lambda name, at, entries, error: extents.extend(entries))
assert extents[1] == 3, extents
`;
        await through(place, `nbdsh -c "uri='$uri'" -c '${script}'`);
      },
    },
  ],
};
