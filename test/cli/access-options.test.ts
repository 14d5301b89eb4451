import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { type ServeFlags, serveOptions } from "../../src/cli/commands/serve.ts";
import { accessOptions, type AccessSettings } from "../../src/cli/serve/access-options.ts";
import { parseConfig } from "../../src/cli/serve/config.ts";
import { parseOwner } from "../../src/cli/serve/owner.ts";
import { nbdRaid } from "./captured.ts";

const usage = (message: string) =>
  expect.objectContaining({
    code: "usage",
    message: expect.stringContaining(message) as string,
  }) as Error;

describe("who may connect", () => {
  test("comes from the command line as a whole", () => {
    const flags: AccessSettings = {
      tlsCertificates: "tls",
      tlsRequired: true,
      tlsVerifyPeer: true,
      allow: ["10.0.0.0/8", "::1"],
      socketMode: "0660",
      socketOwner: "7:8",
      readOnlyExports: ["a"],
      maxConnections: 1,
      maxConnectionsPerAddress: 2,
      maxNegotiating: 3,
      maxMemory: "4M",
      handshakeTimeout: 0.5,
      idleTimeout: 6,
      keepalive: 0,
    };
    expect(accessOptions(flags, {})).toEqual({
      tls: { kind: "x509", folder: resolve("tls"), verifyPeer: true },
      tlsRequired: true,
      allow: ["10.0.0.0/8", "::1"],
      socket: { mode: 0o660, uid: 7, gid: 8 },
      readOnlyExports: ["a"],
      limits: {
        connections: 1,
        connectionsPerAddress: 2,
        negotiating: 3,
        memoryBytes: 4 * 2 ** 20,
        handshakeMs: 500,
        idleMs: 6000,
        keepAliveMs: 0,
      },
    });
  });

  test("comes from the file under the same names, its paths relative to it", () => {
    const text = `
members: [a]
tlsPsk: keys.psk
tlsRequired: true
allow: [127.0.0.1]
socketMode: "660"
socketOwner: ":0"
readOnlyExports: [a, b]
maxConnections: 10
maxConnectionsPerAddress: 9
maxNegotiating: 8
maxMemory: 512M
handshakeTimeout: 2.5
idleTimeout: 3600
keepalive: 30
`;
    const { access } = serveOptions([], {}, parseConfig(text, "/etc/c.yaml"), [], () => "");
    expect(access).toEqual({
      tls: { kind: "psk", path: "/etc/keys.psk" },
      tlsRequired: true,
      allow: ["127.0.0.1"],
      socket: { mode: 0o660, uid: null, gid: 0 },
      readOnlyExports: ["a", "b"],
      limits: {
        connections: 10,
        connectionsPerAddress: 9,
        negotiating: 8,
        memoryBytes: 512 * 2 ** 20,
        handshakeMs: 2500,
        idleMs: 3_600_000,
        keepAliveMs: 30_000,
      },
    });
  });

  test("on the command line comes before the file, and keys there replace certificates", () => {
    const file = { tlsCertificates: "/c", tlsVerifyPeer: false, tlsRequired: true, idleTimeout: 1 };
    const flags: ServeFlags = { tlsPsk: "/k", idleTimeout: 2 };
    expect(accessOptions(flags, file)).toMatchObject({
      tls: { kind: "psk", path: "/k" },
      tlsRequired: true,
      limits: { idleMs: 2000 },
    });
  });

  const contradictions: [what: string, flags: AccessSettings, message: string][] = [
    ["certificates and keys", { tlsCertificates: "a", tlsPsk: "b" }, "either"],
    ["required TLS without any", { tlsRequired: true }, "--tls-required needs"],
    ["peers to verify by keys", { tlsPsk: "a", tlsVerifyPeer: true }, "--tls-verify-peer needs"],
    ["an owner nobody is", { socketOwner: "no-such-user-at-all" }, 'no user "no-such'],
    ["a group nobody has", { socketOwner: "0:no-such-group" }, 'no group "no-such'],
    ["no owner", { socketOwner: ":" }, "not USER"],
  ];
  test.each(contradictions)("cannot be %s", (_what, flags, message) => {
    expect(() => accessOptions(flags, {})).toThrowError(usage(message));
  });

  test.each([
    ["maxConnections: 0", '"maxConnections" must be'],
    ["maxMemory: 1Q", '"maxMemory" must match'],
    ["maxMemory: 1", '"maxMemory" must be string'],
    ["socketMode: 660", '"socketMode" must be string'],
    ['socketMode: "0888"', '"socketMode" must match'],
    ["handshakeTimeout: 0", '"handshakeTimeout" must be > 0'],
    ["handshakeTimeout: 3000000", '"handshakeTimeout" must be <= 2147483'],
    ["idleTimeout: -1", '"idleTimeout" must be >= 0'],
    ["idleTimeout: 2147484", '"idleTimeout" must be <= 2147483'],
    ["keepalive: 0.5", '"keepalive" must be >= 1'],
    ["keepalive: -1", '"keepalive" must be >= 1'],
    ["keepalive: 32768", '"keepalive" must be <= 32767'],
    ["allow: 127.0.0.1", '"allow" must be array'],
    ["tlsRequired: please", '"tlsRequired" must be boolean'],
  ])("in a file cannot be %s, and the line is named", (line, reason) => {
    expect(() => parseConfig(`members: [a]\n${line}\n`, "/c.yaml")).toThrowError(
      expect.objectContaining({
        code: "config-invalid",
        message: expect.stringContaining(`/c.yaml:2: ${reason}`) as string,
      }),
    );
  });

  test.each([
    ["--max-connections", "0"],
    ["--max-connections", "1e3"],
    ["--max-negotiating", "-1"],
    ["--max-memory", "lots"],
    ["--socket-mode", "rw"],
    ["--socket-mode", "01777"],
    ["--idle-timeout", "soon"],
    ["--idle-timeout", "2147484"],
    ["--handshake-timeout", "0"],
    ["--handshake-timeout", "3000000"],
    ["--handshake-timeout", "3000000000ms"],
    ["--keepalive", "500ms"],
    ["--keepalive", "32768"],
    ["--allow", "10.0.0.0/33"],
    ["--allow", "example.org"],
  ])("on the command line cannot be %s %s", async (option, value) => {
    const { code, stderr } = await nbdRaid(["serve", "/no/such/member", option, value]);
    expect({ code, lines: stderr.trim().split("\n").length }).toEqual({ code: 64, lines: 1 });
    expect(stderr).toContain(value);
  });
});

describe("a time", () => {
  test("may be as long as a timer takes, and silent clients need not be probed", () => {
    const text = `
members: [a]
handshakeTimeout: 2147483
idleTimeout: 2147483
keepalive: 0
`;
    const { access } = serveOptions([], {}, parseConfig(text, "/c.yaml"), [], () => "");
    const limits = { handshakeMs: 2_147_483_000, idleMs: 2_147_483_000, keepAliveMs: 0 };
    expect(access.limits).toEqual(limits);
  });
});

describe("an owner", () => {
  test("is found by name or by number", () => {
    expect(parseOwner("root")).toEqual({ uid: 0, gid: null });
    expect(parseOwner("root:root")).toEqual({ uid: 0, gid: 0 });
    expect(parseOwner("1234:5678")).toEqual({ uid: 1234, gid: 5678 });
  });
});
