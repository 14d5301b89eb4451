// The server is killed, or the client's power goes, while a real kernel writes to mounted file
// systems. What fsync had promised is there afterwards.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Random } from "../../src/member/simulated-disk.ts";
import { between, isLong, seeded, sleep } from "../crash/rounds.ts";
import { Arrays, RAID1, RAID10, RAID5, RAID6 } from "./attach-arrays.ts";
import { Client, type FileSystem, type Use } from "./attach-client.ts";

const SHAPES = isLong ? [RAID1, RAID5, RAID6, RAID10] : [RAID1, RAID5];
const ROUNDS = isLong ? 4 : 1;
/** Every other one on ext4 with one connection, in turns: each array sees both. */
const WAYS: readonly { readonly fs: FileSystem; readonly options: string }[] = [
  { fs: "ext4", options: "" },
  { fs: "xfs", options: "-C 4" },
];
const RECORDS_MAX = isLong ? 30 : 12;

interface Loaded {
  readonly use: Use;
  readonly seed: number;
  readonly log: string;
}

describe("what the guest has synced", () => {
  let arrays: Arrays;
  let blob: string;
  let client: Client;
  let random: Random;

  beforeAll(async () => {
    ({ random } = seeded());
    arrays = await Arrays.start(SHAPES);
    blob = await arrays.writeBlob(random);
    client = await Client.boot(arrays, blob);
  });

  afterAll(async () => {
    await client?.end();
    await arrays?.dispose();
  });

  /** New file systems, or those of the round before, with a load on each. */
  async function loadAll(round: number): Promise<Loaded[]> {
    const loaded: Loaded[] = [];
    for (const [index, { name }] of SHAPES.entries()) {
      const way = WAYS[(index + Math.floor(round / 2)) % WAYS.length]!;
      const use: Use = { array: name, device: `nbd${index}`, ...way };
      const seed = between(random, 1, 32_768);
      if (round % 2 === 0) await client.attachNew(use);
      else await client.attachAndMount(use);
      await client.run(`rm -rf /mnt/${use.device}/tree`);
      await client.plant(use, seed);
      loaded.push({ use, seed, log: `log-${round}` });
    }
    for (const { use, seed, log } of loaded) {
      await client.churn(use, seed);
      await client.log(use, log);
    }
    return loaded;
  }

  /** Until each array has as many records as the seed wants of it. */
  async function someRecords(loaded: readonly Loaded[]): Promise<void> {
    for (const { use } of loaded) {
      const wanted = between(random, 5, RECORDS_MAX);
      await expect
        .poll(() => client.records.get(use.array), { timeout: 600_000, interval: 5 })
        .toBeGreaterThan(wanted);
    }
    await sleep(between(random, 0, 200));
  }

  /** The journal is replayed, and all is there and in order. */
  async function expectRecovered(loaded: readonly Loaded[]): Promise<void> {
    for (const { use, seed, log } of loaded) {
      await client.run("dmesg --clear");
      await client.attachAndMount(use);
      await client.run(`replayed ${use.device}`);
      await client.expectLog(use, log, client.records.get(use.array)!);
      await client.expectTree(use, seed);
      await client.detachSound(use);
    }
  }

  test("is there when the server was killed under load", async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const loaded = await loadAll(round);
      await someRecords(loaded);
      await arrays.kill9();
      // What a user has to do: requests that were under way hang until the device is let go.
      for (const { device } of loaded.map(({ use }) => use)) {
        await client.run(`nbd-client -d /dev/${device}`);
        expect(await client.run(`ended log-${device}`), "what the log's fsync said").toBe("1\n");
        await client.run(`stopped churn-${device}`);
        await client.run(`umount /mnt/${device}`);
      }
      await arrays.serve();
      for (const { use } of loaded) {
        const { sync, lastSync } = await arrays.status(use.array);
        expect((sync ?? lastSync)?.action).toBe("resync");
      }
      await expectRecovered(loaded);
      for (const { use } of loaded) await arrays.expectChecked(use.array);
    }
  });

  test("is there when its own power was cut under load", async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const loaded = await loadAll(round);
      await someRecords(loaded);
      await client.cutPower();
      for (const { use } of loaded) {
        await expect
          .poll(() => arrays.connections(use.array), { timeout: 30_000, interval: 100 })
          .toBe(0);
      }
      const { records } = client;
      client = await Client.boot(arrays, blob);
      for (const [array, count] of records) client.records.set(array, count);
      await expectRecovered(loaded);
      for (const { use } of loaded) await arrays.expectChecked(use.array);
    }
  });
});
