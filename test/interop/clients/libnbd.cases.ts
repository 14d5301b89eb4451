/** libnbd's programs; of 1.14 none speaks extended headers. */
import { join } from "node:path";
import { expect } from "vitest";
import { allocatedBytes, dataDigest, digest } from "../images.ts";
import { attempt } from "../run.ts";
import { type ClientCases, emptyTheArray, nbdsh, randomFile, sparseFile } from "./cases.ts";
import { ILLEGAL_REQUESTS, REFUSED } from "./illegal-requests.ts";
import { type Place, SIZE } from "./places.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const CONTEXTS = ["base:allocation", "x-nbd-raid:regions"];
const parallel = ["--connections=4", "--requests=64"];

const ABILITIES = [
  ...["connect", "write", "flush", "fua", "multi-conn", "trim", "zero", "fast-zero", "cache", "df"],
  ...["tls", "structured-reply"],
];

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

async function mapOf(place: Place, context = "base:allocation"): Promise<MapEntry[]> {
  const output = await place.run("nbdinfo", `--map=${context}`, "--json", place.uri);
  return JSON.parse(output) as MapEntry[];
}

/** Both members hold what the file does. */
async function expectOnMembers(place: Place, file: string): Promise<void> {
  const expected = await digest(file);
  for (const image of place.server.images) expect(await dataDigest(image, SIZE)).toBe(expected);
}

const simpleReplies = "h.set_request_structured_replies(False)";

/** All requests that change data, 64 reads at once, and that none of it went elsewhere. */
const legalRequests = `
def expect(content, offset):
    assert h.pread(len(content), offset) == content, offset
h.trim(size, 0)
h.pwrite(b"\\x55" * (1 << 20), 0, flags=nbd.CMD_FLAG_FUA)
h.zero(65536, 4096)
h.zero(65536, 131072, flags=nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(65536, 524288, flags=nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 0)
h.pwrite(b"odd", size - 3)
h.flush()
expect(b"\\x55" * 4096 + bytes(65536) + b"\\x55" * 61440 + bytes(65536) + b"\\x55" * 4096, 0)
expect(b"\\x55" * 4096 + bytes(65536) + b"\\x55" * 4096, 524288 - 4096)
expect(bytes(4093) + b"odd", size - 4096)
blocks = [nbd.Buffer(4096) for _ in range(64)]
for i, block in enumerate(blocks):
    h.pwrite(bytes([i + 1]) * 4096, (1 << 20) + i * 4096)
for i, block in enumerate(blocks):
    h.aio_pread(block, (1 << 20) + i * 4096)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i, block in enumerate(blocks):
    assert block.to_bytearray() == bytes([i + 1]) * 4096, i
`;

const illegalRequests = `
${REFUSED}
${ILLEGAL_REQUESTS.map(([, script]) => script).join("\n")}
h.pwrite(b"still here", 4096)
assert h.pread(10, 4096) == b"still here"
`;

export const LIBNBD: ClientCases = {
  programs: ["nbdinfo", "nbdcopy", "nbdsh", "cmp"],
  cases: [
    {
      title: "nbdinfo --json tells of TLS, structured replies, contexts and abilities",
      run: async (place) => {
        for (const list of [[], ["--list"]]) {
          const output = await place.run("nbdinfo", "--json", ...list, place.uri);
          expect(JSON.parse(output)).toMatchObject({
            ...{ TLS: place.security !== "plain", structured: true },
            exports: [
              {
                ...{ "export-name": "data", "export-size": SIZE, contexts: CONTEXTS },
                ...{ is_read_only: false, can_df: true, can_fast_zero: true, can_cache: true },
                ...{ can_flush: true, can_fua: true, can_multi_conn: true, can_trim: true },
                ...{ can_zero: true, block_size_minimum: 1, block_size_preferred: 4 * KIB },
                block_size_maximum: 32 * MIB,
              },
            ],
          });
        }
      },
    },
    {
      title: "nbdinfo --list and --size name the array and its size",
      run: async (place) => {
        const list = await place.run("nbdinfo", "--list", place.uri);
        expect(list).toContain('export="data"');
        expect(await place.run("nbdinfo", "--size", place.uri)).toBe(`${SIZE}\n`);
      },
    },
    {
      title: "nbdinfo --can and --is say what the server offers",
      run: async (place) => {
        const answer = async (...question: string[]) =>
          (await attempt("nbdinfo", [...question, place.uri])).code;
        const [yes, no] = [0, 2];
        for (const ability of ABILITIES) {
          const without = ability === "tls" && place.security === "plain";
          expect([ability, await answer("--can", ability)]).toEqual([ability, without ? no : yes]);
        }
        expect(await answer("--is", "read-only")).toBe(no);
        expect(await answer("--is", "rotational")).toBe(no);
      },
    },
    {
      title: "nbdinfo --map shows what was written, and holes around it",
      run: async (place) => {
        const write = `h.pwrite(b"\\5" * ${MIB}, 0); h.pwrite(b"\\6" * ${128 * KIB}, ${20 * MIB})`;
        await emptyTheArray(place);
        await nbdsh(place, write);
        expect(await mapOf(place)).toMatchObject([
          { offset: 0, length: MIB, type: 0 },
          { offset: MIB, length: 19 * MIB, type: 3 },
          { offset: 20 * MIB, length: 128 * KIB, type: 0 },
          { offset: 20 * MIB + 128 * KIB, length: 20 * MIB - 128 * KIB, type: 3 },
        ]);
        const regions = await mapOf(place, "x-nbd-raid:regions");
        expect(regions.reduce((sum, { length }) => sum + length, 0)).toBe(SIZE);
      },
    },
    {
      title: "nbdcopy writes random data to every member, and reads it back",
      run: async (place) => {
        const source = await randomFile(place.folder);
        await place.run("nbdcopy", ...parallel, "--flush", source, place.uri);
        await expectOnMembers(place, source);
        await place.run("nbdcopy", ...parallel, place.uri, "back.img");
        await place.run("cmp", source, "back.img");
      },
    },
    {
      title: "nbdcopy keeps the holes of a sparse file, in the members and on the way back",
      run: async (place) => {
        const random = await randomFile(place.folder);
        await place.run("nbdcopy", random, place.uri);
        const source = await sparseFile(place.folder);
        await place.run("nbdcopy", ...parallel, "--flush", source, place.uri);
        await expectOnMembers(place, source);
        for (const image of place.server.images) {
          expect(await allocatedBytes(image)).toBeLessThan(4 * MIB);
        }
        await place.run("nbdcopy", ...parallel, place.uri, "back.img");
        await place.run("cmp", source, "back.img");
        expect(await allocatedBytes(join(place.folder, "back.img"))).toBeLessThan(2 * MIB);
      },
    },
    {
      title: "nbdsh sends every request, by structured replies",
      run: async (place) => {
        const structured = "assert h.get_structured_replies_negotiated() and h.can_df()";
        await nbdsh(place, `${structured}\n${legalRequests}`);
      },
    },
    {
      title: "nbdsh sends every request, by simple replies",
      run: async (place) => {
        const simple = "assert not h.get_structured_replies_negotiated() and not h.can_df()";
        await nbdsh(place, `${simple}\n${legalRequests}`, simpleReplies);
      },
    },
    {
      title: "nbdsh is refused illegal requests by structured replies, and is served on",
      run: async (place) => {
        await nbdsh(place, illegalRequests);
        await nbdsh(place, legalRequests);
      },
    },
    {
      title: "nbdsh is refused illegal requests by simple replies, and is served on",
      run: async (place) => {
        const dontFragment = "refused([errno.EINVAL], h.pread, 512, 0, flags=nbd.CMD_FLAG_DF)";
        await nbdsh(place, `${REFUSED}\n${dontFragment}\n${illegalRequests}`, simpleReplies);
        await nbdsh(place, legalRequests, simpleReplies);
      },
    },
    {
      title: "nbdsh reads by extended headers",
      run: async (place) => {
        const script = "assert h.get_extended_headers_negotiated(); h.pread(512, 0)";
        await nbdsh(place, script, "h.set_request_extended_headers(True)");
      },
      cannot: () => ({
        because: "libnbd knows them from 1.18 on",
        says: /no attribute 'set_request_extended_headers'/,
      }),
    },
  ],
};
