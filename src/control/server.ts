import { createServer } from "node:http";
import swagger from "@fastify/swagger";
import { TypeBoxValidatorCompiler } from "@fastify/type-provider-typebox";
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from "fastify";
import type { Logger } from "pino";
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { NbdRaidError } from "../errors.ts";
import { errorDocument, httpStatus, operatingError } from "./failure.ts";
import { type Controlled, addRoutes } from "./routes.ts";
import { listenPrivately } from "./socket.ts";

/** How long replies that are ready may take to leave when the server closes. */
const CLOSE_GRACE_MS = 500;

export interface ControlServer {
  /** Takes the socket away, ends requests that still wait, and closes. */
  close(): Promise<void>;
}

/**
 * Serves the control API (HTTP and JSON) on a Unix socket of mode 0600 at `path`. Throws
 * "control-in-use" if another server answers there.
 */
export async function startControl(
  options: Controlled & { readonly path: string; readonly logger: Logger },
): Promise<ControlServer> {
  let endWaits: (reason: NbdRaidError) => void = () => undefined;
  const closing = new Promise<never>((_, reject) => (endWaits = reject));
  closing.catch(() => undefined); // nobody may be waiting

  const app = await buildApi(options, closing, options.logger);
  const server = createServer((request, response) => app.routing(request, response));
  const takeAway = await listenPrivately(server, options.path);

  return {
    async close() {
      await takeAway();
      endWaits(new NbdRaidError("shutting-down", "the server stops"));
      const cut = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      await new Promise((resolve) => server.close(resolve));
      clearTimeout(cut);
      await app.close();
    },
  };
}

async function buildApi(
  controlled: Controlled,
  closing: Promise<never>,
  logger: Logger,
): Promise<FastifyInstance> {
  // A name of 32 bytes may take three characters a byte in a URL.
  const app = fastify({ logger: false, routerOptions: { maxParamLength: 256 } });
  app.setValidatorCompiler(TypeBoxValidatorCompiler);
  app.setSerializerCompiler(({ schema, httpStatus: status, url }) =>
    checkedSerializer(schema as TSchema, `${url} ${status ?? ""}`),
  );
  app.setErrorHandler<FastifyError>((error, _request, reply) => answerError(error, reply));
  app.setNotFoundHandler(({ method, url }, reply) =>
    answerError(new NbdRaidError("usage", `the control API has no ${method} ${url}`), reply),
  );
  app.addHook("onResponse", ({ method, url }, { statusCode }, done) => {
    logger[method === "GET" ? "debug" : "info"]({ method, url, statusCode }, "control request");
    done();
  });
  await app.register(swagger, {
    openapi: { openapi: "3.1.0", info: { title: "nbd-raid control API", version: "1" } },
  });
  addRoutes(app, controlled, closing);
  await app.ready();
  return app;
}

function answerError(error: FastifyError | NbdRaidError, reply: FastifyReply): FastifyReply {
  const shown = operatingError(error) ?? requestError(error) ?? internalError(error);
  return reply.code(httpStatus(shown.code)).send(errorDocument(shown));
}

/** What fastify itself refuses: bodies that are no JSON, or not of the schema. */
function requestError(error: FastifyError | NbdRaidError): NbdRaidError | null {
  const status = "statusCode" in error ? (error.statusCode ?? 500) : 500;
  return status < 500 ? new NbdRaidError("usage", error.message) : null;
}

/**
 * A bug may have left an array half changed, and nothing more may be written: the error is
 * thrown again outside every promise, where the process's handler of uncaught ones gets it.
 */
function internalError(error: Error): NbdRaidError {
  process.nextTick(() => {
    throw error;
  });
  return new NbdRaidError("internal", error.message, { cause: error });
}

function checkedSerializer(schema: TSchema, what: string): (data: unknown) => string {
  const checker = Compile(schema);
  return (data) => {
    if (!checker.Check(data)) {
      const [first] = checker.Errors(data);
      const where = `${first?.instancePath ?? ""} ${first?.message ?? ""}`;
      throw new NbdRaidError("internal", `reply to ${what} is not of its schema: ${where}`);
    }
    return JSON.stringify(data);
  };
}
