/** Arrays that one server serves over TCP, each by its name, for the kernel's client. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { ArrayStatus } from "../../src/array/status.ts";
import { ControlClient } from "../../src/control/client.ts";
import type { Random } from "../../src/member/simulated-disk.ts";
import { allocatedBytes } from "../interop/images.ts";
import { Server } from "../interop/server.ts";

export interface ArrayShape {
  readonly name: string;
  readonly level: string;
  readonly members: number;
  /** Usable, of each member: XFS wants 300 MiB of the array. */
  readonly memberMib: number;
  /** Members that it can lose, whichever they are. */
  readonly redundancy: number;
}

const shapeOf = (
  level: string,
  members: number,
  memberMib: number,
  redundancy: number,
): ArrayShape => ({ name: `raid${level}of${members}`, level, members, memberMib, redundancy });

export const RAID1 = shapeOf("1", 2, 320, 1);
export const RAID5 = shapeOf("5", 4, 112, 1);
export const RAID6 = shapeOf("6", 5, 112, 2);
export const RAID10 = shapeOf("10", 4, 160, 1);
export const RAID10_ODD = shapeOf("10", 3, 216, 1);

const BLOB_BYTES = 8 * 1024 * 1024;

export class Arrays {
  readonly #folder: string;
  readonly #shapes: readonly ArrayShape[];
  readonly #server: Server;

  private constructor(folder: string, shapes: readonly ArrayShape[], server: Server) {
    this.#folder = folder;
    this.#shapes = shapes;
    this.#server = server;
  }

  /** Made by the CLI, and served. */
  static async start(shapes: readonly ArrayShape[]): Promise<Arrays> {
    const folder = await mkdtemp(join(tmpdir(), "nbd-raid-attach-"));
    const images = shapes.flatMap((shape) => imagesIn(folder, shape));
    const server = await Server.over(images, { listen: "nbd://127.0.0.1:0" });
    const arrays = new Arrays(folder, shapes, server);
    try {
      for (const shape of shapes) {
        const options = ["--level", shape.level, "--size", `${shape.memberMib}M`];
        await server.ok("create", shape.name, ...options, ...imagesIn(folder, shape));
      }
      await arrays.serve();
    } catch (error) {
      await arrays.dispose();
      throw error;
    }
    return arrays;
  }

  /** Of the server as it runs now. */
  get port(): number {
    return Number(/:(\d+)\D*$/.exec(this.#server.uri)![1]);
  }

  get control(): ControlClient {
    return new ControlClient(this.#server.control);
  }

  /** What the server said, over all its runs. */
  get stderr(): string {
    return this.#server.stderr;
  }

  async serve(): Promise<void> {
    await this.#server.start();
  }

  kill9(): Promise<void> {
    return this.#server.kill9();
  }

  async restart(): Promise<void> {
    await this.#server.stop();
    await this.serve();
  }

  async dispose(): Promise<void> {
    await this.#server.dispose();
    await rm(this.#folder, { recursive: true, force: true });
  }

  imagesOf(name: string): readonly string[] {
    const shape = this.#shapes.find((candidate) => candidate.name === name);
    return shape === undefined ? [] : imagesIn(this.#folder, shape);
  }

  async status(name: string): Promise<ArrayStatus> {
    return (await this.control.status(name)).arrays[0]!;
  }

  /** How many connections the array has. */
  async connections(name: string): Promise<number> {
    const { connections } = await this.control.status();
    return connections.filter((connection) => connection.export === name).length;
  }

  /** Bytes behind all its images. */
  async allocated(name: string): Promise<number> {
    const each = await Promise.all(this.imagesOf(name).map(allocatedBytes));
    return each.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** The array is whole, and a check of all that was ever written finds nothing. */
  async expectChecked(name: string): Promise<void> {
    await this.control.wait(name);
    await this.control.sync(name, "check");
    await this.control.wait(name);
    const { degraded, mismatchCount, lastSync } = await this.status(name);
    expect({ name, degraded, mismatchCount }).toEqual({ name, degraded: 0, mismatchCount: 0 });
    expect(lastSync).toMatchObject({ action: "check", result: "done" });
  }

  /** What guests take their content from. Returns its path. */
  async writeBlob(random: Random): Promise<string> {
    const blob = Buffer.alloc(BLOB_BYTES);
    for (let at = 0; at < BLOB_BYTES; at += 4) blob.writeUInt32LE(random() * 2 ** 32, at);
    const path = join(this.#folder, "blob");
    await writeFile(path, blob);
    return path;
  }
}

function imagesIn(folder: string, { name, members }: ArrayShape): string[] {
  return Array.from({ length: members }, (_, slot) => join(folder, `${name}-${slot}.img`));
}
