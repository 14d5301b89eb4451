/** The guest as a client of the arrays: what it attaches, formats, mounts and compares. */
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import type { Arrays } from "./attach-arrays.ts";
import { GuestShell } from "./shell.ts";

export type FileSystem = "ext4" | "xfs";

/** An array as the guest uses it. */
export interface Use {
  readonly array: string;
  readonly fs: FileSystem;
  /** Of nbd-client: such as `-C 4`. */
  readonly options: string;
  /** Such as `nbd0`; mounted at /mnt/nbd0. */
  readonly device: string;
}

/** What the guest's kernel made of what the server told it. */
export interface Queue {
  readonly size: number;
  readonly logical_block_size: number;
  readonly discard_max_bytes: number;
  readonly fua: number;
  readonly ro: number;
  readonly write_cache: string;
}

const ATTACH_SH = fileURLToPath(new URL("attach.sh", import.meta.url));
const MEMORY_MIB = 768;

export class Client {
  /** Records of each array's log that the guest saw synced. */
  readonly records = new Map<string, number>();
  readonly #arrays: Arrays;
  #shell: GuestShell | null = null;

  private constructor(arrays: Arrays) {
    this.#arrays = arrays;
  }

  /** `blob` is what the guest takes its content from. */
  static async boot(arrays: Arrays, blob: string): Promise<Client> {
    const client = new Client(arrays);
    const record = (array = "", count = ""): Promise<void> => {
      client.records.set(array, Number(count));
      return Promise.resolve();
    };
    const options = { files: [ATTACH_SH, blob], memoryMib: MEMORY_MIB, host: { record } };
    client.#shell = await GuestShell.boot(options);
    return client;
  }

  run(script: string): Promise<string> {
    return this.#shell!.run(`. /host/attach.sh\n${script}`);
  }

  async end(): Promise<void> {
    await this.#shell?.end();
  }

  async cutPower(): Promise<void> {
    await this.#shell!.cutPower();
    this.#shell = null;
  }

  async attach({ array, device, options }: Use): Promise<void> {
    await this.run(`attach ${device} ${this.#arrays.port} ${array} ${options}`);
  }

  async attachAndMount(use: Use): Promise<void> {
    await this.attach(use);
    await this.run(`attached_mount ${use.device}`);
  }

  /** Attached, with a new file system that is mounted. */
  async attachNew(use: Use): Promise<void> {
    await this.attach(use);
    await this.run(`format ${use.fs} ${use.device}; attached_mount ${use.device}`);
  }

  /** Unmounts; the file system must be in order then; detaches. */
  async detachSound({ fs, device }: Use): Promise<void> {
    await this.run(`umount /mnt/${device}; sound ${fs} ${device}; detach ${device}`);
  }

  /** As after a reboot: nothing of the device is left in the guest's memory. */
  async reattach(use: Use): Promise<void> {
    await this.detachSound(use);
    await this.attachAndMount(use);
  }

  async queue(device: string): Promise<Queue> {
    return JSON.parse(await this.run(`queue ${device}`)) as Queue;
  }

  /** Puts a tree there and syncs it. */
  async plant({ device }: Use, seed: number): Promise<void> {
    await this.run(`tree /mnt/${device}/tree ${seed}; sync -f /mnt/${device}`);
  }

  async expectTree({ device }: Use, seed: number): Promise<void> {
    await this.run(`same_tree /mnt/${device}/tree ${seed}`);
  }

  /** Changes files, and the same in a copy in the guest's memory, until `stop`. */
  async churn({ device }: Use, seed: number): Promise<void> {
    const folders = `/mnt/${device}/churn /run/churn-${device}`;
    await this.run(`rm -rf ${folders}; background churn-${device} churn ${folders} ${seed}`);
  }

  /** The churn ended without an error. */
  async stopChurn({ device }: Use): Promise<void> {
    expect(await this.run(`stopped churn-${device}`)).toBe("0\n");
  }

  async expectChurned({ device }: Use): Promise<void> {
    await this.run(`diff -r /run/churn-${device} /mnt/${device}/churn`);
  }

  /** A log whose every record is synced before the next, until `stop`. */
  async log({ array, device }: Use, file: string): Promise<void> {
    this.records.set(array, 0);
    await this.run(`background log-${device} records /mnt/${device}/${file} ${array}`);
  }

  /** The records that are known to be synced are there. */
  async expectLog({ device }: Use, file: string, records: number): Promise<void> {
    await this.run(`cmp -n ${records * 4096} /host/blob /mnt/${device}/${file}`);
  }
}
