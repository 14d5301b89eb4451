import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { CATALOGUE, type ErrorCode, NbdRaidError } from "../../src/errors.ts";
import { MemberError } from "../../src/member/member.ts";
import { ControlClient } from "../../src/control/client.ts";
import { operatingError } from "../../src/control/failure.ts";
import { waitForExit } from "../../src/control/process.ts";
import { pathOf } from "../../src/control/routes.ts";
import { FakeArray, arrayStatus } from "./fake-array.ts";
import { runControl, temporaryFolder } from "./running.ts";

const totals = {
  name: "data",
  connections: 3,
  requests: { read: 7, write: 6, flush: 5, trim: 4, cache: 3, writeZeroes: 2, blockStatus: 1 },
  readBytes: 1 << 20,
  writtenBytes: 1 << 19,
};
const connection = {
  export: "data",
  peer: "unix",
  tls: false,
  inFlight: 1,
  readBytes: 4096,
  writtenBytes: 512,
};

async function raw(path: string, method: string, url: string, body?: string) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const sent = request({ socketPath: path, method, path: url, headers, agent: false }).end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  return { status: response.statusCode, body: JSON.parse(await text(response)) as unknown };
}

describe("status", () => {
  test("brings the arrays, what was asked of them, and the connections", async () => {
    const sync = {
      action: "recovery",
      pending: false,
      waitingFor: null,
      doneBytes: 1,
      totalBytes: 2,
      skippedBytes: 0,
      bytesPerSecond: 3,
      etaSeconds: null,
    } as const;
    const array = new FakeArray({ sync, bitmap: null });
    const { path } = await runControl({
      arrays: [array],
      exports: [totals],
      connections: [connection],
    });
    expect(await new ControlClient(path).status()).toEqual({
      version: 1,
      arrays: [array.current],
      exports: [totals],
      connections: [connection],
    });
  });

  test("of one array leaves out the others and their connections", async () => {
    const arrays = [new FakeArray({ name: "one" }), new FakeArray({ name: "two" })];
    const { path } = await runControl({ arrays, exports: [totals], connections: [connection] });
    const { arrays: shown, exports, connections } = await new ControlClient(path).status("two");
    expect(shown.map(({ name }) => name)).toEqual(["two"]);
    expect([...exports, ...connections]).toEqual([]);
  });

  test("that is not of the contract's shape is an error, not sent", async () => {
    const { path } = await runControl({ arrays: [new FakeArray({ degraded: 0.5 })] });
    await expect(new ControlClient(path).status()).rejects.toMatchObject({
      code: "internal",
      message: expect.stringContaining("/arrays/0/degraded") as string,
    });
  });
});

describe("a verb", () => {
  test("reaches the array as it was meant, and answers with the array's status", async () => {
    const array = new FakeArray();
    const { path } = await runControl({ arrays: [array] });
    const client = new ControlClient(path);
    expect(await client.fail("data", "/b")).toEqual(array.current);
    await client.remove("data", "1");
    await client.reAdd("data", "/b");
    await client.add("data", "/c", { writeMostly: true });
    await client.setWriteMostly("data", "0", false);
    await client.sync("data", "check");
    await client.set("data", { daemonSleepMs: 5000 });
    await client.wait("data");
    expect(array.calls).toEqual([
      "fail /b",
      "remove 1",
      "re-add /b",
      "add /c true",
      "write-mostly 0 false",
      "sync check",
      `set {"daemonSleepMs":5000}`,
      "wait",
    ]);
  });

  test("takes a slot number where a path is meant", async () => {
    const array = new FakeArray();
    const { path } = await runControl({ arrays: [array] });
    await new ControlClient(path).reAdd("data", "1");
    expect(array.calls).toEqual(["re-add /images/b.img"]);
    expect(() => pathOf(arrayStatus(), "2")).toThrow(/no member in slot 2/);
  });

  test("finds arrays by any name that md can hold", async () => {
    const arrays: FakeArray[] = [];
    const { path } = await runControl({ arrays });
    const client = new ControlClient(path);
    const awkward = ["a/b", "..", ".", "%2F", "?x=1#y", "é€😀", "host:data", "x".repeat(32)];
    const name = fc.string({ unit: "binary", minLength: 1, maxLength: 12 }).filter(isName);
    await fc.assert(
      fc.asyncProperty(name, async (name) => {
        const array = new FakeArray({ name });
        arrays.splice(0, 1, array);
        await client.fail(name, "/b");
        expect(array.calls).toEqual(["fail /b"]);
        expect((await client.status(name)).arrays[0]?.name).toBe(name);
      }),
      { examples: awkward.map((one) => [one]) },
    );
  });

  test("for an array that does not exist says so", async () => {
    const { path } = await runControl({ arrays: [new FakeArray()] });
    const client = new ControlClient(path);
    for (const call of [client.fail("nope", "/b"), client.wait("nope"), client.status("nope")])
      await expect(call).rejects.toMatchObject({ code: "unknown-array" });
  });

  test("that fails brings the error's code, message and remedy", async () => {
    const array = new FakeArray();
    const { path } = await runControl({ arrays: [array] });
    for (const code of Object.keys(CATALOGUE) as ErrorCode[]) {
      array.fails = new NbdRaidError(code, `because of ${code}`);
      const { message, remedy } = array.fails as NbdRaidError;
      const call = new ControlClient(path).fail("data", "/b");
      await expect(call).rejects.toMatchObject({ code, message, remedy });
    }
  });
});

describe("a request", () => {
  test.each([
    ["POST", "/v1/arrays/data/fail", `{"member":1}`],
    ["POST", "/v1/arrays/data/fail", `{"member":""}`],
    ["POST", "/v1/arrays/data/fail", `{"member":"/b","more":1}`],
    ["POST", "/v1/arrays/data/fail", `{`],
    ["POST", "/v1/arrays/data/add", `{"member":"/b"}`],
    ["POST", "/v1/arrays/data/sync", `{"verb":"reshape"}`],
    ["POST", "/v1/arrays/data/sync", `{}`],
    ["PATCH", "/v1/arrays/data/settings", `{}`],
    ["PATCH", "/v1/arrays/data/settings", `{"daemonSleepMs":-1}`],
    ["PATCH", "/v1/arrays/data/settings", `{"barrierIdleMs":2147483648}`],
    ["PATCH", "/v1/arrays/data/settings", `{"nonsense":1}`],
    ["GET", "/v1/nothing", undefined],
  ])("%s %s %s is refused and touches nothing", async (method, url, body) => {
    const array = new FakeArray();
    const { path } = await runControl({ arrays: [array] });
    const reply = await raw(path, method, url, body);
    expect(reply).toMatchObject({ status: 400, body: { code: "usage" } });
    expect(array.calls).toEqual([]);
  });

  test("of an OpenAPI client finds every route described", async () => {
    const { path } = await runControl({});
    const { body } = await raw(path, "GET", "/openapi.json");
    const { openapi, paths } = body as { openapi: string; paths: Record<string, object> };
    expect(openapi).toBe("3.1.0");
    expect(Object.keys(paths).sort()).toEqual([
      "/v1/arrays/{name}/add",
      "/v1/arrays/{name}/fail",
      "/v1/arrays/{name}/re-add",
      "/v1/arrays/{name}/remove",
      "/v1/arrays/{name}/settings",
      "/v1/arrays/{name}/sync",
      "/v1/arrays/{name}/wait",
      "/v1/arrays/{name}/write-mostly",
      "/v1/status",
      "/v1/stop",
    ]);
  });
});

describe("without a server", () => {
  test("the client says that none is running", async () => {
    const path = join(await temporaryFolder(), "c.sock");
    await expect(new ControlClient(path).status()).rejects.toMatchObject({ code: "no-server" });
    await writeFile(path, ""); // connect(2) refuses this as it does a stale socket
    await expect(new ControlClient(path).status()).rejects.toMatchObject({ code: "no-server" });
  });

  test("a server that goes away in mid-request is none either", async () => {
    const path = join(await temporaryFolder(), "c.sock");
    const server = createServer((socket) => socket.once("data", () => socket.destroy()));
    onTestFinished(() => void server.close());
    await once(server.listen(path), "listening");
    await expect(new ControlClient(path).wait("data")).rejects.toMatchObject({
      code: "no-server",
      message: expect.stringContaining("ended before it answered") as string,
    });
  });

  const http = (status: string, body: string) =>
    `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  test.each([
    ["no HTTP", "NBDMAGIC"],
    ["no JSON", http("200 OK", "hey")],
    ["nothing", http("200 OK", "null")],
    ["a list", http("200 OK", "[]")],
    ["an empty document", http("200 OK", "{}")],
    ["another document", http("200 OK", `{"status":"up","arrays":[]}`)],
    ["another's error", http("404 Not Found", `{"message":"page not found"}`)],
    ["nothing as an error", http("500 Internal Server Error", "null")],
    ["a text as an error", http("500 Internal Server Error", `"oh"`)],
  ])("something else that answers with %s is none either", async (_what, answer) => {
    const path = join(await temporaryFolder(), "c.sock");
    const server = createServer((socket) => socket.once("data", () => socket.end(answer)));
    onTestFinished(() => void server.close());
    await once(server.listen(path), "listening");
    const client = new ControlClient(path);
    const stranger = {
      code: "no-server",
      message: `what answers is no nbd-raid server: ${path}`,
    };
    await expect(client.status()).rejects.toMatchObject(stranger);
    await expect(client.fail("data", "1")).rejects.toMatchObject(stranger);
    await expect(client.stop()).rejects.toMatchObject(stranger);
  });
});

describe("wait and stop", () => {
  test("a wait that the server's end cuts short says that it stops", async () => {
    const array = new FakeArray();
    array.waiting = new Promise(() => undefined);
    const { path, control } = await runControl({ arrays: [array] });
    const waits = new ControlClient(path).wait("data");
    const refused = expect(waits).rejects.toMatchObject({ code: "shutting-down" });
    await expect.poll(() => array.calls).toEqual(["wait"]);
    await control.close();
    await refused;
  });

  test("a stop that could not mark an array clean tells whoever asked for it", async () => {
    const stop = () => Promise.reject(new NbdRaidError("io-error", "b.img is gone"));
    const { path } = await runControl({ stop });
    await expect(new ControlClient(path).stop()).rejects.toMatchObject({ code: "io-error" });
  });

  test("waiting for a process ends when it has exited, reaped by its parent or not", async () => {
    const child = spawn("sh", ["-c", "sleep 0.3 & echo $!; exec sleep 1"]);
    onTestFinished(() => void child.kill());
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    // `sleep 1` took the shell's place and reaps nobody: its child is a zombie after 0.3 s.
    const startedAt = performance.now();
    await waitForExit(Number(line.toString()));
    const waitedMs = performance.now() - startedAt;
    expect(waitedMs).toBeGreaterThan(100);
    expect(waitedMs).toBeLessThan(900);
  });
});

describe("anything thrown", () => {
  test("is an operating error if storage or system said so, else a bug", async () => {
    const refused = new NbdRaidError("last-member", "no");
    expect(operatingError(refused)).toBe(refused);
    expect(operatingError(new MemberError("/b", "read", new Error("EIO")))?.code).toBe("io-error");
    const system = await rm("/no/such/file").catch((error: unknown) => error);
    expect(operatingError(system)).toMatchObject({ code: "io-error" });
    for (const bug of [new TypeError("x"), new Error("invariant broken: y"), "text", undefined])
      expect(operatingError(bug)).toBeNull();
  });
});

function isName(name: string): boolean {
  return Buffer.byteLength(name) <= 32 && !name.includes("\0");
}
