/**
 * Whom TLS lets in and whom it keeps out, by libnbd's clients (of GnuTLS). What clients do by TLS
 * is in clients.test.ts.
 */
import { copyFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { makeAuthority } from "./certificates.ts";
import { testWith } from "./fixtures.ts";
import { attempt } from "./run.ts";
import type { Server } from "./server.ts";

const test = testWith("openssl", "nbdinfo", "nbdsh");

const SIZE = 64 * 1024 * 1024;
const ALICE = "alice:0123456789abcdef0123456789abcdef";
const LISTEN = "nbd://127.0.0.1:0";

/** Starts a server whose authority's certificates are in its own folder, in `tls`. */
async function startWithCertificates(server: Server, ...args: string[]) {
  const authority = await makeAuthority(server.folder, "tls");
  await server.start(server.images, ["--tls-certificates", authority.folder, ...args]);
  return authority;
}

async function startWithKeys(server: Server, ...args: string[]): Promise<string> {
  const file = join(server.folder, "keys.psk");
  await writeFile(file, `${ALICE}\n`, { mode: 0o600 });
  await server.start(server.images, ["--tls-psk", file, ...args]);
  return file;
}

const portOf = (server: Server) => new URL(server.uri).port;
const nbds = (server: Server, query: string, user = "") =>
  `nbds://${user}localhost:${portOf(server)}/data?${query}`;

/** nbdsh's arguments: it reads key files that a URI names only if it is told to. */
const shell = (uri: string, script: string) => [
  ...["-c", `h.set_uri_allow_local_file(True); h.connect_uri(${JSON.stringify(uri)})`],
  ...["-c", script],
];

async function connections(server: Server): Promise<{ tls: boolean }[]> {
  const status = JSON.parse(await server.ok("status", "--json")) as {
    connections: { tls: boolean }[];
  };
  return status.connections;
}

test("a client that trusts another authority refuses the server", async ({ create }) => {
  const server = await create({ listen: LISTEN });
  await startWithCertificates(server);
  const other = await makeAuthority(server.folder, "other");
  const uri = nbds(server, `tls-certificates=${other.folder}`);
  expect((await attempt("nbdinfo", ["--size", uri])).code).toBe(1);
});

test("where TLS is offered plain clients are served, and status tells them apart", async ({
  create,
}) => {
  const server = await create({ listen: LISTEN });
  const { folder } = await startWithCertificates(server);
  expect(server.uri).toMatch(/^nbd:/);
  const hold = "print(h.get_tls_negotiated()); import time; time.sleep(4)";
  const uri = nbds(server, `tls-certificates=${folder}`);
  const clients = Promise.all([
    server.run("nbdsh", ...shell(`nbd://127.0.0.1:${portOf(server)}/data`, hold)),
    server.run("nbdsh", ...shell(uri, hold)),
  ]);
  let seen: boolean[] = [];
  for (let i = 0; i < 30 && seen.length < 2; i++) {
    await sleep(100);
    seen = (await connections(server)).map(({ tls }) => tls);
  }
  expect(seen.sort()).toEqual([false, true]);
  expect(await clients).toEqual(["False\n", "True\n"]);
});

test("where TLS is required a plain client is refused with words", async ({ create }) => {
  const server = await create({ listen: LISTEN });
  await startWithCertificates(server, "--tls-required");
  expect(server.uri).toMatch(/^nbds:\/\/127\.0\.0\.1:\d+$/);
  const plain = `nbd://127.0.0.1:${portOf(server)}/data`;
  const { code, stderr } = await attempt("nbdinfo", ["--size", plain]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/TLS/);
});

test("with --tls-verify-peer only clients of the authority are let in", async ({ create }) => {
  const server = await create({ listen: LISTEN });
  const authority = await startWithCertificates(server, "--tls-required", "--tls-verify-peer");
  const good = nbds(server, `tls-certificates=${authority.folder}`);
  expect(await server.run("nbdinfo", "--size", good)).toBe(`${SIZE}\n`);

  const fails = async (folder: string) => {
    const uri = nbds(server, `tls-certificates=${folder}`);
    const result = await attempt("nbdsh", shell(uri, "print(h.get_size())"));
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toMatch(/gnutls|server|TLS/i);
    expect(result.stderr).not.toContain("not allowed");
  };
  const expired = await authority.issue("expired", { days: -1 });
  await fails(expired);
  const other = await makeAuthority(server.folder, "other");
  await copyFile(join(authority.folder, "ca-cert.pem"), join(other.folder, "ca-cert.pem"));
  await fails(other.folder);
  const bare = await authority.issue("bare");
  await Promise.all(
    ["client-cert.pem", "client-key.pem"].map((name) => server.run("rm", join(bare, name))),
  );
  await fails(bare);
  expect(await server.run("nbdinfo", "--size", good)).toBe(`${SIZE}\n`);
});

test("a revoked client is refused", async ({ create }) => {
  const server = await create({ listen: LISTEN });
  const authority = await makeAuthority(server.folder, "tls");
  const revoked = await authority.issue("revoked");
  const file = (name: string) => join(authority.folder, name);
  await writeFile(file("index.txt"), "");
  await writeFile(file("crlnumber"), "01\n");
  const settings = `[ca]\ndefault_ca=ours\n[ours]\ndatabase=${file("index.txt")}
crlnumber=${file("crlnumber")}\ndefault_md=sha256\ndefault_crl_days=1\n`;
  await writeFile(file("ca.cnf"), settings);
  const ca = ["ca", "-config", file("ca.cnf"), "-cert", file("ca-cert.pem")];
  const signed = [...ca, "-keyfile", file("ca-key.pem")];
  await server.run("openssl", ...signed, "-revoke", join(revoked, "client-cert.pem"));
  await server.run("openssl", ...signed, "-gencrl", "-out", file("ca-crl.pem"));
  const args = ["--tls-certificates", authority.folder, "--tls-verify-peer", "--tls-required"];
  await server.start(server.images, args);
  const read = (folder: string) =>
    attempt("nbdinfo", ["--size", nbds(server, `tls-certificates=${folder}`)]);
  expect((await read(authority.folder)).code).toBe(0);
  expect((await read(revoked)).code).toBe(1);
});

test("another pre-shared key or another name than the server's is refused", async ({ create }) => {
  const server = await create();
  const file = await startWithKeys(server, "--tls-required");
  expect(server.uri).toMatch(/^nbds\+unix:/);
  const wrong = join(server.folder, "wrong.psk");
  await writeFile(wrong, `${ALICE.replace("0123", "ffff")}\nbob:${"ab".repeat(16)}\n`);
  const size = (user: string, keys: string) =>
    attempt("nbdinfo", [
      "--size",
      `nbds+unix://${user}@/data?socket=${server.socket}&tls-psk-file=${keys}`,
    ]);
  for (const user of ["alice", "bob"]) expect((await size(user, wrong)).code).toBe(1);
  expect(await size("alice", file)).toMatchObject({ code: 0, stdout: `${SIZE}\n` });
});

test.for(["1.2", "1.3"])("libnbd and the server agree on TLS %s", async (version, { create }) => {
  const server = await create({ listen: LISTEN });
  const debug = ["--tls-required", "--log-level", "debug"];
  const { folder } = await startWithCertificates(server, ...debug);
  const keys = join(server.folder, "keys.psk");
  const others = ["1.0", "1.1", "1.2", "1.3"].filter((other) => other !== version);
  const disabled = others.map((other) => `disabled-version = tls${other}\n`).join("");
  await writeFile(join(server.folder, "gnutls.conf"), `[overrides]\n${disabled}`);
  const env = { GNUTLS_SYSTEM_PRIORITY_FILE: join(server.folder, "gnutls.conf") };
  const uri = nbds(server, `tls-certificates=${folder}`);
  const result = await attempt("nbdinfo", ["--size", uri], { env });
  expect(result).toMatchObject({ code: 0, stdout: `${SIZE}\n` });
  await server.stop();
  await writeFile(keys, `${ALICE}\n`);
  await server.start(server.images, ["--tls-psk", keys, ...debug]);
  const byKey = nbds(server, `tls-psk-file=${keys}`, "alice@");
  expect(await attempt("nbdinfo", ["--size", byKey], { env })).toMatchObject({ code: 0 });
  const spoken = [...server.stderr.matchAll(/"protocol":"TLSv([\d.]+)"/g)].map(([, used]) => used);
  expect(spoken).toEqual([version, version]);
});

test("SIGHUP takes new certificates for clients to come, and keeps those that are in", async ({
  create,
}) => {
  const server = await create({ listen: LISTEN });
  const { folder } = await startWithCertificates(server, "--tls-required");
  const before = nbds(server, `tls-certificates=${folder}`);
  const script = 'import time; h.pwrite(b"a", 0); time.sleep(6); h.pwrite(b"b", 1); print("in")';
  const held = server.run("nbdsh", ...shell(before, script));
  for (let i = 0; i < 50 && (await connections(server)).length === 0; i++) await sleep(50);
  const other = await makeAuthority(server.folder, "other");
  for (const name of await readdir(other.folder))
    if (name.startsWith("server-")) await copyFile(join(other.folder, name), join(folder, name));
  process.kill(server.pid, "SIGHUP");
  await sleep(300);
  expect((await attempt("nbdinfo", ["--size", before])).code).toBe(1);
  const after = nbds(server, `tls-certificates=${other.folder}`);
  expect(await server.run("nbdinfo", "--size", after)).toBe(`${SIZE}\n`);
  expect(await held).toBe("in\n");

  await writeFile(join(folder, "server-key.pem"), "no key");
  process.kill(server.pid, "SIGHUP");
  await sleep(300);
  expect(server.stderr).toContain("what was read before stays in force");
  expect(await server.run("nbdinfo", "--size", after)).toBe(`${SIZE}\n`);
});

test("files that are no good are said in one line, and nothing is served", async ({ create }) => {
  const server = await create();
  const authority = await makeAuthority(server.folder, "tls");
  const other = await makeAuthority(server.folder, "other");
  await copyFile(join(other.folder, "server-key.pem"), join(authority.folder, "server-key.pem"));
  for (const [args, word] of [
    [["--tls-certificates", authority.folder], "cannot be used"],
    [["--tls-certificates", join(server.folder, "absent")], "server-cert.pem"],
    [["--tls-psk", join(server.folder, "absent.psk")], "absent.psk"],
  ] as const) {
    const result = await server.cli("serve", ...server.images, ...args);
    expect(result).toMatchObject({ code: 4, stdout: "" });
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
    expect(result.stderr).toContain(word);
  }
});
