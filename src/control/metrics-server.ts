import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import fastify from "fastify";
import type { Logger } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { NbdRaidError } from "../errors.ts";
import { renderMetrics } from "./metrics.ts";
import { type Reported, statusDocument } from "./status.ts";

export interface MetricsAddress {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
}

export interface MetricsServer {
  /** Where scrapes go: port 0 is a number here. */
  readonly url: string;
  close(): Promise<void>;
}

export interface MetricsOptions extends Reported {
  readonly address: MetricsAddress;
  readonly logger: Logger;
}

/**
 * What anyone who reaches the address can take of the server: as many connections, for so long,
 * with headers of so many bytes. One request each, and its body is not read.
 */
const CONNECTIONS_MAX = 32;
const TIMES = { headersTimeout: 3_000, requestTimeout: 3_000, connectionsCheckingInterval: 500 };
const SILENCE_MS = 5_000;
const HEADER_BYTES_MAX = 8 * 1024;

/**
 * Answers GET /metrics in Prometheus' text format, over HTTP without TLS. Throws "address-in-use"
 * or "address-invalid".
 */
export async function startMetrics(options: MetricsOptions): Promise<MetricsServer> {
  const processMetrics = new Registry();
  collectDefaultMetrics({ register: processMetrics, eventLoopMonitoringPrecision: 100 });

  const app = fastify({ logger: false });
  app.get("/metrics", async (_request, reply) => {
    const text = await renderMetrics(statusDocument(options), [processMetrics]);
    return reply.type(processMetrics.contentType).send(text);
  });
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).type("text/plain").send("metrics are at GET /metrics\n"),
  );
  app.setErrorHandler((error, _request, reply) => {
    options.logger.error({ err: error }, "metrics could not be told");
    return reply.code(500).type("text/plain").send("an error: see the server's log\n");
  });
  await app.ready();

  const server = createServer({ ...TIMES, maxHeaderSize: HEADER_BYTES_MAX }, (request, response) =>
    app.routing(request, response),
  );
  server.maxConnections = CONNECTIONS_MAX;
  server.maxRequestsPerSocket = 1;
  server.setTimeout(SILENCE_MS);
  const url = await new Promise<string>((resolve, reject) => {
    const refuse = (error: NodeJS.ErrnoException): void =>
      reject(listenError(error, options.address));
    server.once("error", refuse);
    server.listen({ ...options.address }, () => {
      server.off("error", refuse);
      // One that could not be accepted: the next may be.
      server.on("error", (error) => options.logger.debug({ err: error }, "metrics: no connection"));
      resolve(urlOf(server.address() as AddressInfo));
    });
  });

  return {
    url,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await app.close();
    },
  };
}

function urlOf({ address, port }: AddressInfo): string {
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}/metrics`;
}

function listenError(error: NodeJS.ErrnoException, { host, port }: MetricsAddress): NbdRaidError {
  const code = error.code === "EADDRINUSE" ? "address-in-use" : "address-invalid";
  const message = `cannot serve metrics at ${host}:${port}: ${error.message}`;
  return new NbdRaidError(code, message, { cause: error });
}
