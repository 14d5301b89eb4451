/**
 * @vates/nbd-client reads the disks that Xen Orchestra backs up. It runs in the tests' own process,
 * cannot write, and is the only client here that takes an export by EXPORT_NAME, with the 124 zeroes
 * behind its reply, and that asks for nothing else. By TLS it checks no certificate and shows none.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type * as Client from "@vates/nbd-client";
import type * as Multi from "@vates/nbd-client/multi.mjs";
import type * as Disk from "@vates/nbd-client/NbdDisk.mjs";
import { expect } from "vitest";
import { type Cannot, type ClientCases, emptyTheArray, randomFile, sparseFile } from "./cases.ts";
import { ALL_KINDS, certificatesIn, type Kind, type Place, portOf, SIZE } from "./places.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const PACKAGE = join(import.meta.dirname, "../npm-peers/node_modules/@vates/nbd-client");

/** A path and not a name: the package is another's dependency, and is there or is not. */
const load = (file: string): Promise<unknown> => import(pathToFileURL(join(PACKAGE, file)).href);

/** A failure shows at once, and in the client's first words. */
const ONCE: Client.Options = {
  ...{ readBlockRetries: 1, waitBeforeReconnect: 1, messageTimeout: 30_000 },
};

async function settingsOf({ server, security, transport }: Place): Promise<Client.Settings> {
  const port = transport === "Unix" ? server.socket : Number(portOf(server));
  const settings = { address: "127.0.0.1", port, exportname: "data" };
  if (security === "plain") return settings;
  const file = join(certificatesIn(server.folder), "server-cert.pem");
  return { ...settings, cert: security === "TLS PSK" ? "" : await readFile(file, "utf8") };
}

async function withClient(
  place: Place,
  use: (client: Client.NbdTcpClient, settings: Client.Settings) => Promise<void>,
): Promise<void> {
  const { NbdTcpClient } = (await load("index.mjs")) as typeof Client;
  const settings = await settingsOf(place);
  const client = new NbdTcpClient(settings, ONCE);
  await client.connect();
  try {
    expect(client.exportSize).toBe(BigInt(SIZE));
    await use(client, settings);
  } finally {
    await client.disconnect();
  }
}

/** The whole export, in reads that are all sent before one is answered. */
async function readAtOnce(client: Client.BlockReader, size: number): Promise<Buffer> {
  const indexes = Array.from({ length: Math.ceil(SIZE / size) }, (_, index) => index);
  return Buffer.concat(await Promise.all(indexes.map((index) => client.readBlock(index, size))));
}

/** Copies a file into the array, and returns what it holds. */
async function nbdcopy(place: Place, file: string): Promise<Buffer> {
  await place.run("nbdcopy", "--flush", file, place.uri);
  return readFile(file);
}

/** One byte each: a difference of megabytes is no message. */
function expectEqual(actual: Buffer, expected: Buffer): void {
  expect({ bytes: actual.length, equal: actual.equals(expected) }).toEqual({
    ...{ bytes: expected.length, equal: true },
  });
}

function cannot({ security }: Pick<Kind, "security">): Cannot | null {
  switch (security) {
    case "TLS x509":
      return {
        because: "it has no key, so it shows no certificate",
        // It may be writing its next message when it is turned away.
        says: /EPIPE|ECONNRESET|ended|destroyed|disconnected|closed|alert certificate required/i,
      };
    case "TLS PSK":
      return { because: "it takes no keys", says: /alert handshake failure/ };
    case "plain":
    case "TLS x509 of the server alone":
      return null;
  }
}

export const VATES: ClientCases = {
  programs: ["nbdcopy", "nbdsh", "nbdinfo"],
  kinds: ALL_KINDS,
  missing: existsSync(PACKAGE) ? null : "no @vates/nbd-client: run scripts/install-peers.sh",
  cases: [
    {
      title: "@vates/nbd-client reads what nbdcopy wrote, 64 blocks at once",
      run: (place) =>
        withClient(place, async (client) => {
          const expected = await nbdcopy(place, await randomFile(place.folder));
          expectEqual(await readAtOnce(client, SIZE / 64), expected);
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client reads data and holes, 256 blocks at once over 4 connections",
      run: (place) =>
        withClient(place, async (one, settings) => {
          await nbdcopy(place, await randomFile(place.folder));
          const expected = await nbdcopy(place, await sparseFile(place.folder));
          const { default: MultiNbdClient } = (await load("multi.mjs")) as typeof Multi;
          const four = new MultiNbdClient(settings, { nbdConcurrency: 4, ...ONCE });
          await four.connect();
          try {
            const both = [readAtOnce(four, SIZE / 256), readAtOnce(one, SIZE / 64)];
            for (const actual of await Promise.all(both)) expectEqual(actual, expected);
            const ahead: Buffer[] = [];
            const size = SIZE / 256;
            const blocks = Array.from({ length: 256 }, (_, index) => ({ index, size }));
            for await (const block of four.readBlocks(() => blocks)) ahead.push(block);
            expectEqual(Buffer.concat(ahead), expected);
          } finally {
            await four.disconnect();
          }
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client reads odd blocks to a short last one, the largest, and zeroes",
      run: (place) =>
        withClient(place, async (client) => {
          const expected = await nbdcopy(place, await randomFile(place.folder));
          expectEqual(await readAtOnce(client, 1_000_003), expected);
          expectEqual(await client.readBlock(0, 32 * MIB), expected.subarray(0, 32 * MIB));
          await emptyTheArray(place);
          expectEqual(await readAtOnce(client, SIZE / 64), Buffer.alloc(SIZE));
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client is refused reads past the end and above the largest block",
      run: (place) =>
        withClient(place, async (client) => {
          const expected = await nbdcopy(place, await randomFile(place.folder));
          // Behind the end it asks for the negative length from there to the end, as 32 bits.
          const refusals = [
            { index: SIZE / MIB + 1, size: MIB, says: /GOT ERROR CODE {2}: 22$/ },
            { index: SIZE / MIB + 2047, size: MIB, says: /GOT ERROR CODE {2}: 22$/ },
            { index: 0, size: 32 * MIB + 1, says: /GOT ERROR CODE {2}: (22|75)$/ },
          ];
          for (const { index, size, says } of refusals) {
            await expect(client.readBlock(index, size)).rejects.toThrow(says);
            await client.reconnect();
            expectEqual(await client.readBlock(1, MIB), expected.subarray(MIB, 2 * MIB));
          }
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client is cut off where it names another export",
      run: (place) =>
        withClient(place, async (client, settings) => {
          const { NbdTcpClient } = (await load("index.mjs")) as typeof Client;
          const other = new NbdTcpClient({ ...settings, exportname: "other" }, ONCE);
          await expect(other.connect()).rejects.toThrow(/stream has ended without data/);
          expect(await client.readBlock(0, 64 * KIB)).toHaveLength(64 * KIB);
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client leaves in the midst of 64 reads, and others are served on",
      run: (place) =>
        withClient(place, async (client, settings) => {
          const expected = await nbdcopy(place, await randomFile(place.folder));
          const { NbdTcpClient } = (await load("index.mjs")) as typeof Client;
          const leaving = new NbdTcpClient(settings, ONCE);
          await leaving.connect();
          const given = readAtOnce(leaving, SIZE / 64).catch((error: unknown) => error);
          const kept = readAtOnce(client, SIZE / 64);
          await leaving.disconnect();
          expect(await given).toMatchObject({ code: "NBD_NOT_CONNECTED" });
          expectEqual(await kept, expected);
        }),
      cannot,
    },
    {
      title: "@vates/nbd-client's disk reads the blocks that have data, by its map",
      run: async (place) => {
        await emptyTheArray(place);
        const expected = await nbdcopy(place, await sparseFile(place.folder));
        const { NbdDisk } = (await load("NbdDisk.mjs")) as typeof Disk;
        const disk = new NbdDisk(await settingsOf(place), MIB);
        try {
          await disk.init();
          expect(disk.getVirtualSize()).toBe(SIZE);
          expect(disk.getBlockIndexes()).toEqual([0, 2, 3, 17, 39]);
          const actual = Buffer.alloc(SIZE);
          for (const index of disk.getBlockIndexes()) {
            actual.set((await disk.readBlock(index)).data, index * MIB);
          }
          expectEqual(actual, expected);
        } finally {
          await disk.close();
        }
      },
      cannot: ({ security, transport }) => {
        if (security === "plain" && transport === "TCP") return null;
        const because = "it asks nbdinfo for the map, by a URI of plain TCP";
        return cannot({ security }) ?? { because, says: /Error during getMap/ };
      },
    },
  ],
};
