/** Pre-shared keys as files have them. Certificates need a program that makes them: test/interop. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { parseKeys, readTlsFiles } from "../../src/nbd/tls-files.ts";
import { temporaryFolder } from "./serving.ts";

const KEY = "00112233445566778899aabbccddeeff";
const invalid = (message: string) =>
  expect.objectContaining({
    code: "tls-invalid",
    message: expect.stringContaining(message) as string,
  }) as Error;

describe("a file of keys", () => {
  it("has names and keys, as psktool writes them", () => {
    const text = `alice:${KEY}\nbob smith:${KEY.toUpperCase()}${KEY}\n\n#6576650a:${KEY}\r\n`;
    const keys = parseKeys(text, "keys.psk");
    expect([...keys.keys()]).toEqual(["alice", "bob smith", "eve\n"]);
    expect(keys.get("alice")).toEqual(Buffer.from(KEY, "hex"));
    expect(keys.get("bob smith")).toEqual(Buffer.from(KEY + KEY, "hex"));
  });

  it.each([
    ["", "keys.psk: no keys"],
    ["\n\n", "keys.psk: no keys"],
    ["alice\n", "keys.psk:1: not NAME:HEX"],
    [`:${KEY}\n`, "keys.psk:1: not NAME:HEX"],
    [`# a remark\nalice:${KEY}\n`, "keys.psk:1: not NAME:HEX"],
    [`#remark:${KEY}\n`, "keys.psk:1: not NAME:HEX"],
    [`alice:${KEY}\nbob:xyz\n`, "keys.psk:2: not NAME:HEX"],
    [`alice:${KEY}0\n`, "keys.psk:1: not NAME:HEX"],
    [`alice:${KEY.slice(2)}\n`, "keys.psk:1: a key has 16 to 256 bytes, not 15"],
    [`alice:${"00".repeat(257)}\n`, "keys.psk:1: a key has 16 to 256 bytes, not 257"],
    [`${"x".repeat(129)}:${KEY}\n`, "keys.psk:1: the name is too long"],
    [`alice:${KEY}\nalice:${KEY}\n`, 'keys.psk:2: "alice" has a key already'],
  ])("with %j is refused, and the line named", (text, message) => {
    expect(() => parseKeys(text, "keys.psk")).toThrowError(invalid(message));
  });

  it("never has a key in the message that refuses it", () => {
    const line = `alice:${KEY}zz\n`;
    expect(() => parseKeys(line, "k")).toThrowError(/^(?!.*0011)/);
  });

  it("is named, or the folder that has it as keys.psk", () => {
    const folder = temporaryFolder();
    const file = path.join(folder, "keys.psk");
    writeFileSync(file, `alice:${KEY}\n`, { mode: 0o600 });
    for (const given of [file, folder]) {
      const { keys, warnings } = readTlsFiles({ kind: "psk", path: given });
      expect({ names: [...keys.keys()], warnings }).toEqual({ names: ["alice"], warnings: [] });
    }
  });

  it("that others can read is warned about", () => {
    const file = path.join(temporaryFolder(), "keys.psk");
    writeFileSync(file, `alice:${KEY}\n`);
    chmodSync(file, 0o644);
    expect(readTlsFiles({ kind: "psk", path: file }).warnings).toEqual([
      `${file} can be read by every user of this machine`,
    ]);
  });

  it("that is not there is said so", () => {
    const folder = temporaryFolder();
    const source = { kind: "psk", path: path.join(folder, "absent") } as const;
    expect(() => readTlsFiles(source)).toThrowError(invalid("absent: ENOENT"));
    mkdirSync(path.join(folder, "empty"));
    const empty = { kind: "psk", path: path.join(folder, "empty") } as const;
    expect(() => readTlsFiles(empty)).toThrowError(invalid("keys.psk"));
  });
});

describe("a folder of certificates", () => {
  it.each([
    ["server-cert.pem", {}],
    ["server-key.pem", { "server-cert.pem": "x" }],
    ["ca-cert.pem", { "server-cert.pem": "x", "server-key.pem": "x" }],
  ])("without %s is refused by that name", (missing, files) => {
    const folder = temporaryFolder();
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
    const source = { kind: "x509", folder, verifyPeer: true } as const;
    expect(() => readTlsFiles(source)).toThrowError(invalid(missing));
  });

  it("with files that are no certificates is refused", () => {
    const folder = temporaryFolder();
    for (const name of ["server-cert.pem", "server-key.pem"])
      writeFileSync(path.join(folder, name), "nonsense");
    const source = { kind: "x509", folder, verifyPeer: false } as const;
    expect(() => readTlsFiles(source)).toThrowError(invalid(folder));
  });
});
