/**
 * A server under attack: one client misbehaves over a raw socket, and whatever it did, others are
 * served as before, with the data they wrote.
 */
import { describe, expect, it } from "vitest";
import type { NbdServerOptions } from "../../src/nbd/server.ts";
import { ChunkClient, type Mode } from "./chunk-client.ts";
import { COMMAND, RawClient } from "./client.ts";
import { MemoryDevice } from "./memory-device.ts";
import { exportOf, serve, type Serving } from "./serving.ts";

const MIB = 2 ** 20;
const WITNESS_AT = 7 * MIB;

export class Arena {
  readonly serving: Serving;
  /** 8 MiB; what the attacks may touch ends at 7 MiB. */
  readonly device: MemoryDevice;
  readonly #witness: RawClient;
  #rounds = 0;

  private constructor(serving: Serving, device: MemoryDevice, witness: RawClient) {
    this.serving = serving;
    this.device = device;
    this.#witness = witness;
  }

  static async open(options: Partial<NbdServerOptions> = {}): Promise<Arena> {
    const device = new MemoryDevice(8 * MIB);
    const fixed = new MemoryDevice(MIB, { readOnly: true });
    const serving = await serve([exportOf(device), exportOf(fixed, "fixed")], options);
    const arena = new Arena(serving, device, await serving.client("data"));
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
  async chunked(mode: Mode): Promise<ChunkClient> {
    const contexts = ["base:allocation", "x-nbd-raid:regions"];
    return ChunkClient.negotiate(await this.client(), mode, contexts);
  }

  /** A client that was there all the time, and one that comes now. */
  async othersAreServed(): Promise<void> {
    this.device.gate = null;
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

export function attacks(
  what: string,
  list: readonly (readonly [name: string, attack: Attack])[],
  options: Partial<NbdServerOptions> = {},
): void {
  describe(what, () => {
    it.each(list)("%s; others are served as before", async (_, attack) => {
      const arena = await Arena.open(options);
      await attack(arena);
      await arena.othersAreServed();
    });
  });
}
