import { spawnSync } from "node:child_process";
import { NbdRaidError } from "../../errors.ts";

/** Numbers; null: as the server's own. */
export interface Owner {
  readonly uid: number | null;
  readonly gid: number | null;
}

/** From USER, USER:GROUP or :GROUP, names or numbers. Throws "usage" for a name nobody has. */
export function parseOwner(text: string): Owner {
  const [, user = "", group = ""] = /^([^:]*)(?::([^:]+))?$/.exec(text) ?? [];
  if (user === "" && group === "") throw new NbdRaidError("usage", `not USER[:GROUP]: "${text}"`);
  return { uid: numberOf("passwd", user), gid: numberOf("group", group) };
}

/** Asks the system's name service; the number is the third field of an entry. */
function numberOf(database: "passwd" | "group", name: string): number | null {
  if (name === "") return null;
  if (/^\d{1,9}$/.test(name)) return Number(name);
  const { stdout } = spawnSync("getent", [database, "--", name], { encoding: "utf8" });
  const field = stdout?.split(":")[2];
  if (field === undefined || !/^\d+$/.test(field))
    throw new NbdRaidError("usage", `no ${database === "passwd" ? "user" : "group"} "${name}"`);
  return Number(field);
}
