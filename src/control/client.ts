import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { CATALOGUE, type ErrorCode, NbdRaidError } from "../errors.ts";
import type { ArraySettings, ArrayStatus, SyncVerb } from "../array/status.ts";
import type { ErrorDocument, StatusDocument } from "./api.ts";
import { waitForExit } from "./process.ts";

/**
 * The control API of a running server, typed. Every call throws what the server threw, by its
 * code; "no-server" if nobody answers at the path. `wait` and `stop` take as long as they take.
 */
export class ControlClient {
  readonly #path: string;

  /** `path` is the server's control socket. */
  constructor(path: string) {
    this.#path = path;
  }

  /** All arrays and connections, or those of one array. */
  status(array?: string): Promise<StatusDocument> {
    const query = array === undefined ? "" : `?array=${encodeURIComponent(array)}`;
    return this.#call("GET", `/v1/status${query}`, ["version", "arrays", "connections"]);
  }

  /** As the array is afterwards. `member` is an absolute path or a slot number, here and below. */
  fail(array: string, member: string): Promise<ArrayStatus> {
    return this.#changed(array, "fail", { member });
  }

  remove(array: string, member: string): Promise<ArrayStatus> {
    return this.#changed(array, "remove", { member });
  }

  reAdd(array: string, member: string): Promise<ArrayStatus> {
    return this.#changed(array, "re-add", { member });
  }

  add(array: string, member: string, options: { writeMostly: boolean }): Promise<ArrayStatus> {
    return this.#changed(array, "add", { member, ...options });
  }

  setWriteMostly(array: string, member: string, writeMostly: boolean): Promise<ArrayStatus> {
    return this.#changed(array, "write-mostly", { member, writeMostly });
  }

  sync(array: string, verb: SyncVerb): Promise<ArrayStatus> {
    return this.#changed(array, "sync", { verb });
  }

  async set(array: string, settings: Partial<ArraySettings>): Promise<void> {
    await this.#call("PATCH", arrayUrl(array, "settings"), [], settings);
  }

  /** Resolves when no sync runs or is pending and none could; rejects if the last one failed. */
  async wait(array: string): Promise<void> {
    await this.#call("POST", arrayUrl(array, "wait"), []);
  }

  /** Resolves when the arrays are marked clean and the server's process is gone. */
  async stop(): Promise<void> {
    const { pid } = await this.#call<{ pid: number }>("POST", "/v1/stop", ["pid"]);
    await waitForExit(pid);
  }

  #changed(array: string, verb: string, body: object): Promise<ArrayStatus> {
    return this.#call("POST", arrayUrl(array, verb), ["name", "members"], body);
  }

  /** By the `keys` that any reply has to have a stranger is told apart from another version. */
  async #call<Reply>(
    method: string,
    url: string,
    keys: readonly (keyof Reply & string)[],
    body?: object,
  ): Promise<Reply> {
    const response = await this.#send(method, url, body === undefined ? "" : JSON.stringify(body));
    const received = await text(response).catch((error: Error) => {
      throw this.#unreachable(error);
    });
    const document = this.#parse(received);
    const failed = (response.statusCode ?? 500) >= 400;
    if (!hasKeys(document, failed ? ERROR_KEYS : keys)) throw this.#stranger();
    if (failed) throw asThrown(document as ErrorDocument);
    return document as Reply;
  }

  #parse(received: string): unknown {
    try {
      return JSON.parse(received);
    } catch (error) {
      throw this.#stranger(error);
    }
  }

  #send(method: string, path: string, body: string): Promise<IncomingMessage> {
    const headers = body === "" ? {} : { "content-type": "application/json" };
    return new Promise((resolve, reject) => {
      request({ socketPath: this.#path, method, path, headers, agent: false })
        .once("response", resolve)
        .once("error", (error) => reject(this.#unreachable(error)))
        .end(body);
    });
  }

  #stranger(cause?: unknown): NbdRaidError {
    const message = `what answers is no nbd-raid server: ${this.#path}`;
    return new NbdRaidError("no-server", message, { cause });
  }

  #unreachable(error: NodeJS.ErrnoException): NbdRaidError {
    if (error.code?.startsWith("HPE_")) return this.#stranger(error); // no HTTP
    const [code, message] = UNREACHABLE[error.code ?? ""] ?? ["no-server", error.message];
    return new NbdRaidError(code, `${message}: ${this.#path}`, { cause: error });
  }
}

const UNREACHABLE: Record<string, [ErrorCode, string]> = {
  ENOENT: ["no-server", "no server is running"],
  ECONNREFUSED: ["no-server", "no server is running"],
  ECONNRESET: ["no-server", "the server ended before it answered"],
  EACCES: ["control-denied", "the control socket may not be opened"],
};

function arrayUrl(array: string, verb: string): string {
  return `/v1/arrays/${encodeURIComponent(array)}/${verb}`;
}

const ERROR_KEYS: readonly (keyof ErrorDocument)[] = ["code", "message", "remedy"];

function hasKeys(document: unknown, keys: readonly string[]): boolean {
  if (typeof document !== "object" || document === null) return false;
  return keys.every((key) => Object.hasOwn(document, key));
}

function asThrown({ code, message }: ErrorDocument): NbdRaidError {
  return new NbdRaidError(
    Object.hasOwn(CATALOGUE, code) ? (code as ErrorCode) : "internal",
    message,
  );
}
