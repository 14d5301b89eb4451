import path from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatUri, parseUri, type Address } from "../../src/nbd/uri.ts";

describe("NBD URIs", () => {
  const cases: [text: string, address: Address, exportName: string, tls?: boolean][] = [
    ["nbd://127.0.0.1:10810", { kind: "tcp", host: "127.0.0.1", port: 10810 }, ""],
    ["nbd://127.0.0.1:0/", { kind: "tcp", host: "127.0.0.1", port: 0 }, ""],
    ["nbd://example.org/my%20data", { kind: "tcp", host: "example.org", port: 10809 }, "my data"],
    ["nbd://[::1]:99/x", { kind: "tcp", host: "::1", port: 99 }, "x"],
    ["nbd+unix:///?socket=/run/a+b.sock", { kind: "unix", path: "/run/a+b.sock" }, ""],
    ["nbd+unix:///x/y?socket=/a%20b%2Fc", { kind: "unix", path: "/a b/c" }, "x/y"],
    ["nbds://[::1]:99/x", { kind: "tcp", host: "::1", port: 99 }, "x", true],
    ["nbds://example.org", { kind: "tcp", host: "example.org", port: 10809 }, "", true],
    ["nbds+unix:///x?socket=/a", { kind: "unix", path: "/a" }, "x", true],
    ["nbd+unix:///?socket=here", { kind: "unix", path: path.resolve("here") }, ""],
  ];
  it.each(cases)("%s is understood", (text, address, exportName, tls = false) => {
    expect(parseUri(text)).toEqual({ address, exportName, tls });
  });

  it.each([
    "",
    "localhost:10809",
    "http://localhost",
    "nbds+tcp://localhost",
    "nbds://",
    "nbds+unix:///",
    "nbd://",
    "nbd://:10809",
    "nbd://localhost:65536",
    "nbd://localhost?socket=/x",
    "nbd+unix:///",
    "nbd+unix:///?socket=",
    "nbd+unix:///?socket=/a&x=y",
    "nbd+unix://host/?socket=/a",
    "nbd+unix:///?socket=/a%00b",
    "nbd+unix:///?socket=%zz",
  ])("%s is refused as address-invalid", (text) => {
    expect(() => parseUri(text)).toThrow(expect.objectContaining({ code: "address-invalid" }));
  });

  it("what is formatted parses to the same", () => {
    const name = fc.string({ unit: "grapheme", maxLength: 20 }).filter((s) => !s.includes("\0"));
    const host = fc.oneof(fc.ipV4(), fc.constantFrom("localhost", "::1", "fe80::1"));
    const address = fc.oneof(
      fc.record({ kind: fc.constant("tcp" as const), host, port: fc.nat(65535) }),
      name.map((s) => ({ kind: "unix" as const, path: path.resolve("/", s) })),
    );
    // a lone "." or ".." is a path segment to a URL, not a name
    const exportName = name.filter((s) => !/(^|\/)\.\.?($|\/)/.test(s));
    fc.assert(
      fc.property(address, exportName, fc.boolean(), (address, exportName, tls) => {
        const parsed = parseUri(formatUri(address, exportName, tls));
        expect(parsed).toEqual({ address, exportName, tls });
      }),
    );
  });
});
