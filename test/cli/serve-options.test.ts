import { join, resolve } from "node:path";
import { writeFile } from "node:fs/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type ServeFlags, serveOptions } from "../../src/cli/commands/serve.ts";
import { parseConfig, readConfig } from "../../src/cli/serve/config.ts";
import { temporaryFolder } from "../control/running.ts";

describe("what serve is to do", () => {
  const defaults = () => "/default.sock";

  test("comes from defaults when only members are given", () => {
    expect(serveOptions(["a.img"], {}, null, [], defaults)).toEqual({
      members: [resolve("a.img")],
      listen: ["nbd://127.0.0.1:10809"],
      descriptors: [],
      control: "/default.sock",
      metrics: null,
      readOnly: false,
      run: false,
      force: false,
      access: {
        tls: null,
        tlsRequired: false,
        allow: null,
        socket: { mode: 0o600, uid: null, gid: null },
        readOnlyExports: [],
        limits: {},
      },
    });
  });

  test("comes from the command line before the file", () => {
    const config = { members: ["/a"], listen: ["nbd://h:1"], control: "/c", readOnly: true };
    const flags: ServeFlags = { listen: ["nbd://h:2"], control: "/d", run: true };
    expect(serveOptions([], {}, config, [], defaults)).toMatchObject({
      members: ["/a"],
      listen: ["nbd://h:1"],
      control: "/c",
      readOnly: true,
      run: false,
    });
    expect(serveOptions([], flags, config, [], defaults)).toMatchObject({
      listen: ["nbd://h:2"],
      control: "/d",
      readOnly: true,
      run: true,
    });
  });

  test("with sockets passed in: no listener and no control socket unless asked for", () => {
    const activated = serveOptions(["/a"], {}, null, [3], defaults);
    expect(activated).toMatchObject({ listen: [], descriptors: [3], control: null });
    const asked = { listen: ["nbd://h:1"], control: "/c" };
    expect(serveOptions(["/a"], asked, null, [3], defaults)).toMatchObject(asked);
  });

  test("listens by default where $NBD_RAID_LISTEN says, which the others come before", () => {
    const at = (flags: ServeFlags, config: { members: string[]; listen?: string[] } | null) =>
      serveOptions(config === null ? ["/a"] : [], flags, config, [], defaults, "nbd://h:1").listen;
    expect(at({}, null)).toEqual(["nbd://h:1"]);
    expect(at({ listen: ["nbd://h:2"] }, null)).toEqual(["nbd://h:2"]);
    expect(at({}, { members: ["/a"], listen: ["nbd://h:3"] })).toEqual(["nbd://h:3"]);
  });

  test("tells metrics where the command line says, or else the file", () => {
    const config = { members: ["/a"], metrics: "[::1]:9000" };
    const at = (flags: ServeFlags) => serveOptions([], flags, config, [], defaults).metrics;
    expect(at({})).toEqual({ host: "::1", port: 9000 });
    expect(at({ metrics: "localhost:0" })).toEqual({ host: "localhost", port: 0 });
  });

  test.each(["9000", ":9000", "host:", "host:65536", "http://host:9000", "::1:9000", "[::1]", ""])(
    "refuses to tell metrics at %j",
    (metrics) => {
      const usage = expect.objectContaining({ code: "usage" }) as Error;
      expect(() => serveOptions(["/a"], { metrics }, null, [], defaults)).toThrowError(usage);
    },
  );

  test("with --control none: none, and the default place is not even looked for", () => {
    const never = () => expect.unreachable();
    expect(serveOptions(["/a"], { control: "none" }, null, [], never).control).toBeNull();
  });

  test("needs members from one place", () => {
    const usage = expect.objectContaining({ code: "usage" }) as Error;
    expect(() => serveOptions([], {}, null, [], defaults)).toThrowError(usage);
    expect(() => serveOptions(["/a"], {}, { members: ["/b"] }, [], defaults)).toThrowError(usage);
  });
});

describe("a configuration file", () => {
  test("may say everything", () => {
    const text = `
arrays:
  - members: [a.img, /images/b.img]
  - members:
      - ../c.img
listen:
  - nbd://127.0.0.1:10809
  - nbd+unix:///?socket=/run/x.sock
control: control.sock
metrics: 127.0.0.1:10810
readOnly: true
run: false
force: false
logLevel: debug
`;
    expect(parseConfig(text, "/etc/raid/conf.yaml")).toEqual({
      members: ["/etc/raid/a.img", "/images/b.img", "/etc/c.img"],
      listen: ["nbd://127.0.0.1:10809", "nbd+unix:///?socket=/run/x.sock"],
      control: "/etc/raid/control.sock",
      metrics: "127.0.0.1:10810",
      readOnly: true,
      run: false,
      force: false,
      logLevel: "debug",
    });
  });

  test("may say little", () => {
    expect(parseConfig("members: [a.img]\ncontrol: none\n", "/x/c.yaml")).toEqual({
      members: ["/x/a.img"],
      control: "none",
    });
  });

  test.each([
    ["an unknown key", "members: [a]\nlisten: []\nlisen: []\n", `3: unknown key "lisen"`],
    ["an unknown key inside", "arrays:\n  - members: [a]\n    name: x\n", `3: unknown key "name"`],
    ["an unknown key with a slash", "members: [a]\na/b~c: 1\n", `2: unknown key "a/b~c"`],
    ["a wrong type", "members: [a]\nreadOnly: 7\n", `2: "readOnly" must be boolean`],
    ["a wrong item", "members:\n  - a\n  - 7\n", `3: "members.1" must be string`],
    ["a wrong word", "members: [a]\nlogLevel: loud\n", `2: "logLevel" must be`],
    ["no members", "listen: []\n", `1: give either "members" or "arrays"`],
    ["members twice over", "members: [a]\narrays:\n- members: [b]\n", "1: give either"],
    ["a list without items", "run: true\nmembers: []\n", `2: "members" must`],
    ["an empty file", "", "1: the file must be object"],
    ["a list", "- a\n", "1: the file must be object"],
    ["a key twice", "run: true\nrun: false\nmembers: [a]\n", "2: "],
    ["no YAML", "members: [a\nrun: }\n", "2: "],
    ["a pattern", "run: true\nmembers: [*.img]\n", `2: there is no anchor ".img" above; a text`],
    ["an alias of nothing", "members: [a]\n<<: *x\n", `2: there is no anchor "x" above`],
    ["what is merged", "members: &x [a]\n<<: {}\n", `2: unknown key "<<"`],
    ["an alias in itself", "members: &x [a, *x]\n", `1: "members.1" must be string`],
    ["a bomb of aliases", bomb(), "1: Excessive alias count"],
    ["a map as a key", "members: [a]\n{ run: true }: true\n", "2: "],
    ["a list as a key", "members: [a]\n? [run]\n: true\n", "2: "],
  ])("with %s is refused, and the line named", (_what, text, reason) => {
    expect(() => parseConfig(text, "/c.yaml")).toThrowError(
      expect.objectContaining({
        code: "config-invalid",
        message: expect.stringContaining(`/c.yaml:${reason}`) as string,
      }),
    );
  });

  test("may use a list twice over", () => {
    const text = "listen: &all [nbd://h:1]\nmembers: [a]\nallow: *all\n";
    expect(parseConfig(text, "/c.yaml")).toMatchObject({ allow: ["nbd://h:1"] });
  });

  test("is read without a warning of Node's", () => {
    const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    onTestFinished(() => warned.mockRestore());
    expect(() => parseConfig("members: [a]\n{ run: true }: true\n", "/c.yaml")).toThrow();
    expect(warned).not.toHaveBeenCalled();
  });

  test("is read from disk, if it can be", async () => {
    const path = join(await temporaryFolder(), "c.yaml");
    await expect(readConfig(path)).rejects.toMatchObject({
      code: "config-invalid",
      message: expect.stringContaining(`cannot read ${path}: ENOENT`) as string,
    });
    await writeFile(path, "members: [a.img]\n");
    expect((await readConfig(path)).members).toEqual([join(path, "../a.img")]);
  });
});

/** Each line holds the one before it nine times. */
function bomb(): string {
  const nine = (name: string) => `[${Array.from({ length: 9 }, () => `*${name}`).join(", ")}]`;
  return `listen: &a [x]\nallow: &b ${nine("a")}\nmembers: &c ${nine("b")}\narrays: ${nine("c")}\n`;
}
