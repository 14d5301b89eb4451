import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attempt, run } from "../interop/run.ts";

/** A file system that can be made to fail, mounted in a folder of its own. */
export class Storage {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** `type` and `options` as mount(8) takes them. Null where this process may not mount. */
  static async mount(type: string, source: string, options: string): Promise<Storage | null> {
    const folder = await mkdtemp(join(tmpdir(), "nbd-raid-mount-"));
    const { code } = await attempt("mount", ["-t", type, "-o", options, source, folder]);
    if (code === 0) return new Storage(folder);
    await rm(folder, { recursive: true });
    return null;
  }

  /** Ends all writing from now on, as after an error of the device (ext4(5), `abort`). */
  async abort(): Promise<void> {
    await run("mount", ["-o", "remount,abort", this.folder]);
  }

  async dispose(): Promise<void> {
    await attempt("umount", ["--lazy", this.folder]);
    await rm(this.folder, { recursive: true, force: true });
  }
}
