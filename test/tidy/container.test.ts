import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ROOT, textOf } from "./sources.ts";

/** What the files that make and run the container say, without an engine. */
const DOCKERFILE = textOf("Dockerfile");
const PACKAGE = JSON.parse(textOf("package.json")) as { version: string; license: string };

interface Service {
  image: string;
  command?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  restart?: string;
  stop_grace_period?: string;
  healthcheck?: { test: string };
}
const COMPOSE = parse(textOf("compose.yaml")) as {
  services: Record<string, Service>;
  configs: Record<string, { content: string }>;
};

const label = (name: string): string | undefined =>
  new RegExp(`org\\.opencontainers\\.image\\.${name}="([^"]*)"`).exec(DOCKERFILE)?.[1];

describe("the Dockerfile", () => {
  test("labels the image with the package's version and licence, and with its base", () => {
    expect(label("version")).toBe(PACKAGE.version);
    expect(label("licenses")).toBe(PACKAGE.license);
    const bases = [...DOCKERFILE.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image);
    expect(new Set(bases)).toEqual(
      new Set([label("base\\.name")?.replace("docker.io/library/", "")]),
    );
  });

  test("copies only what .dockerignore lets it see", () => {
    const seen = textOf(".dockerignore")
      .split("\n")
      .flatMap((line) => (line.startsWith("!") ? [line.slice(1)] : []));
    const copied = [...DOCKERFILE.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) =>
      sources!.split(" "),
    );
    expect(copied.length).toBeGreaterThan(4);
    expect(copied.filter((source) => !seen.includes(source))).toEqual([]);
    expect(seen.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  test("runs the server as a user that is not root", () => {
    expect(DOCKERFILE).toMatch(/^USER node$/m);
    expect(DOCKERFILE.indexOf("USER node")).toBeLessThan(DOCKERFILE.indexOf("ENTRYPOINT"));
  });
});

describe("compose.yaml", () => {
  const server = COMPOSE.services["nbd-raid"]!;

  test("is healthy as the image is", () => {
    const [, ours] = /^ +CMD (nbd-raid status .*)$/m.exec(DOCKERFILE)!;
    expect(server.healthcheck?.test.replace("$$", "$")).toBe(ours);
  });

  test("says who is restarted, and gives the server time to stop", () => {
    for (const service of Object.values(COMPOSE.services))
      expect(service.restart).toBe("unless-stopped");
    expect(server.stop_grace_period).toMatch(/^\dm$/);
  });

  test("publishes ports on this machine alone", () => {
    const ports = Object.values(COMPOSE.services).flatMap((service) => service.ports ?? []);
    expect(ports).toHaveLength(2);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test("scrapes the port at which the server tells its metrics", () => {
    const at = server.command?.[server.command.indexOf("--metrics") + 1];
    const { scrape_configs: jobs } = parse(COMPOSE.configs["prometheus"]!.content) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const targets = jobs.flatMap((job) => job.static_configs.flatMap((one) => one.targets));
    expect(targets).toEqual([at?.replace("0.0.0.0", "nbd-raid")]);
  });

  test("names others' images by a version", () => {
    expect(COMPOSE.services["prometheus"]?.image).toMatch(/^[\w./-]+:v\d+\.\d+\.\d+$/);
  });

  const compose = spawnSync("docker", ["compose", "version"]).status === 0;
  test.runIf(compose)("is what docker compose understands", () => {
    const { status, stderr } = spawnSync("docker", ["compose", "config", "--quiet"], { cwd: ROOT });
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: "" });
  });
});
