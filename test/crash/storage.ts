import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { attempt, run } from "../interop/run.ts";

/** A file system mounted in a folder of its own. */
export class Storage {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** `type` and `options` as mount(8) takes them. Null where this process may not mount. */
  static async mount(type: string, source: string, options: string): Promise<Storage | null> {
    const storage = new Storage(await mkdtemp(join(tmpdir(), "nbd-raid-mount-")));
    if (await storage.mount(type, source, options)) return storage;
    await storage.dispose();
    return null;
  }

  async mount(type: string, source: string, options: string): Promise<boolean> {
    const { code } = await attempt("mount", ["-t", type, "-o", options, source, this.folder]);
    return code === 0;
  }

  /** Lazily: a server that was not asked to let go may have files open. */
  async unmount(): Promise<void> {
    await attempt("umount", ["--lazy", this.folder]);
  }

  async dispose(): Promise<void> {
    await this.unmount();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A disk whose file system can be made to fail, and mended: an image that is mounted. */
export class Disk {
  private readonly image: string;
  private readonly storage: Storage;

  private constructor(image: string, storage: Storage) {
    this.image = image;
    this.storage = storage;
  }

  /** Null where this process may not mount. */
  static async make(folder: string, size: string): Promise<Disk | null> {
    const image = join(folder, "disk.img");
    await run("truncate", ["--size", size, image]);
    await run("mkfs.ext4", ["-q", image]);
    const storage = await Storage.mount("ext4", image, "loop");
    return storage === null ? null : new Disk(image, storage);
  }

  /** Moves a member image onto the disk; where it is then. */
  async adopt(image: string): Promise<string> {
    const path = join(this.storage.folder, basename(image));
    await run("cp", ["--sparse=always", image, path]);
    await rm(image);
    return path;
  }

  /** Nothing is written from now on, as after an error of the device (ext4(5), `abort`). */
  async fail(): Promise<void> {
    await run("mount", ["-o", "remount,abort", this.storage.folder]);
  }

  async mend(): Promise<void> {
    await this.storage.unmount();
    await this.storage.mount("ext4", this.image, "loop");
  }

  dispose(): Promise<void> {
    return this.storage.dispose();
  }
}
