/**
 * A server under attack: one client misbehaves over a raw socket, and whatever it did, others are
 * served as before, with the data they wrote.
 */
import { describe, expect, it } from "vitest";
import type { Export } from "../../src/nbd/block-device.ts";
import type { NbdServerOptions } from "../../src/nbd/server.ts";
import { ChunkClient, type Mode } from "./chunk-client.ts";
import { COMMAND, RawClient } from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, type Serving } from "./serving.ts";

const MIB = 2 ** 20;
const WITNESS_AT = 7 * MIB;

type Devices = Pick<Arena, "device" | "large">;

export class Arena {
  readonly serving: Serving;
  /** 8 MiB; what the attacks may touch ends at 7 MiB. */
  readonly device: MemoryDevice;
  /** 40 MiB, as `large`: more than a request may have as its payload. */
  readonly large: MemoryDevice;
  readonly #witness: RawClient;
  #rounds = 0;

  private constructor(serving: Serving, devices: Devices, witness: RawClient) {
    this.serving = serving;
    this.device = devices.device;
    this.large = devices.large;
    this.#witness = witness;
  }

  /** `more` are exported beside those that every arena has. */
  static async open(
    options: Partial<NbdServerOptions> = {},
    more: readonly Export[] = [],
  ): Promise<Arena> {
    const device = new MemoryDevice(8 * MIB);
    const large = new MemoryDevice(40 * MIB);
    const fixed = new MemoryDevice(MIB, { readOnly: true });
    const exports = [exportOf(device), exportOf(fixed, "fixed"), exportOf(large, "large"), ...more];
    const serving = await serve(exports, options);
    const arena = new Arena(serving, { device, large }, await serving.client("data"));
    await arena.othersAreServed();
    return arena;
  }

  /** Connected, and nothing sent. */
  client(): Promise<RawClient> {
    return this.serving.client();
  }

  /** By TCP, and has negotiated. */
  async tcpClient(port: number): Promise<RawClient> {
    const one = await RawClient.connect({ host: "127.0.0.1", port });
    await one.negotiate("data");
    return one;
  }

  /** Has negotiated these headers, with both contexts. */
  async chunked(mode: Mode, name = "data"): Promise<ChunkClient> {
    const contexts = ["base:allocation", "x-nbd-raid:regions"];
    return ChunkClient.negotiate(await this.client(), mode, contexts, name);
  }

  /** A client that was there all the time, and one that comes now. */
  async othersAreServed(): Promise<void> {
    this.device.gate = null;
    this.large.gate = null;
    const payload = Buffer.alloc(4096, ++this.#rounds);
    await this.#witness.write(WITNESS_AT, payload);
    expect((await this.#witness.exchange({ command: COMMAND.FLUSH })).error).toBe(0);
    expect(await this.#witness.read(WITNESS_AT, 4096)).toEqual(payload);
    const late = await this.serving.client("data");
    expect(await late.read(WITNESS_AT, 4096)).toEqual(payload);
    late.destroy();
  }
}

/** What the attacker does, and expects. Whatever it leaves open is closed after the test. */
export type Attack = (arena: Arena) => Promise<void>;

/** `options` may be made anew for each attack. */
export function attacks(
  what: string,
  list: readonly (readonly [name: string, attack: Attack])[],
  options: Partial<NbdServerOptions> | (() => Partial<NbdServerOptions>) = {},
): void {
  describe(what, () => {
    it.each(list)("%s; others are served as before", async (_, attack) => {
      const arena = await Arena.open(typeof options === "function" ? options() : options);
      await attack(arena);
      await arena.othersAreServed();
    });
  });
}
