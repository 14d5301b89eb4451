import { pino } from "pino";
import { afterEach, describe, expect, test, vi } from "vitest";
import { actOnSignals, exitOnBugs } from "../../src/cli/serve/process.ts";

const EVENTS = ["SIGTERM", "SIGINT", "SIGHUP", "uncaughtException"] as const;
const listenersBefore = EVENTS.map((event) => process.listeners(event as "SIGTERM"));

afterEach(() => {
  for (const [index, event] of EVENTS.entries())
    for (const listener of process.listeners(event as "SIGTERM"))
      if (!listenersBefore[index]?.includes(listener)) process.off(event, listener);
  vi.restoreAllMocks();
});

/** What is logged, and process.exit as a thrown word: nothing may run after it. */
function observed() {
  const lines: string[] = [];
  const logger = pino({}, { write: (line: string) => void lines.push(line) });
  vi.spyOn(process, "exit").mockImplementation((code) => {
    throw new Error(`exit ${code}`);
  });
  return { lines, logger };
}

describe("a serving process", () => {
  test("stops at the first signal and ends at the second, of either kind", () => {
    const { lines, logger } = observed();
    const stop = vi.fn();
    actOnSignals({ stop, reload: vi.fn() }, logger);
    process.emit("SIGTERM", "SIGTERM");
    expect(stop).toHaveBeenCalledTimes(1);
    expect(() => process.emit("SIGINT", "SIGINT")).toThrow("exit 1");
    expect(stop).toHaveBeenCalledTimes(1);
    expect(lines[1]).toContain("the next start resyncs");
  });

  test("reads its files again at SIGHUP, whether it has a terminal or not", () => {
    for (const isTerminal of [() => true, () => false]) {
      const { logger } = observed();
      const actions = { stop: vi.fn(), reload: vi.fn() };
      actOnSignals(actions, logger, isTerminal);
      process.emit("SIGHUP", "SIGHUP");
      process.emit("SIGHUP", "SIGHUP");
      expect(actions.reload).toHaveBeenCalledTimes(2);
      expect(actions.stop).not.toHaveBeenCalled();
      process.removeAllListeners("SIGHUP");
    }
  });

  test("stops at SIGHUP when that means that its terminal is gone", () => {
    const { logger } = observed();
    const actions = { stop: vi.fn(), reload: vi.fn() };
    let there = true;
    actOnSignals(actions, logger, (fd) => fd === 2 && there);
    there = false;
    process.emit("SIGHUP", "SIGHUP");
    expect(actions.stop).toHaveBeenCalledTimes(1);
    expect(actions.reload).not.toHaveBeenCalled();
  });

  test("ends at a bug, having logged where it was", () => {
    const { lines, logger } = observed();
    exitOnBugs(logger);
    const [handler] = process.listeners("uncaughtException").slice(-1);
    const bug = new Error("invariant broken: x");
    expect(() => handler?.(bug, "uncaughtException")).toThrow("exit 70");
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ level: 60, err: { stack: bug.stack } });
  });
});
