/** What clients have asked of an export, over all of their connections. */
import { Command } from "./constants.ts";
import type { Transmission } from "./transmission.ts";

/** As `exports` of the status document: since the start of the server. */
export interface ExportTraffic {
  name: string;
  /** Clients that chose this export, those that are gone too. */
  connections: number;
  requests: RequestCounts;
  /** Payload bytes of READs and WRITEs. */
  readBytes: number;
  writtenBytes: number;
}

/** Requests the device was asked for; those that were refused before do not count. */
export interface RequestCounts {
  read: number;
  write: number;
  flush: number;
  trim: number;
  cache: number;
  writeZeroes: number;
  blockStatus: number;
}

export class Traffic {
  connections = 0;
  readBytes = 0;
  writtenBytes = 0;
  /** By the number of their command. */
  readonly requests: number[];

  /** Starts from `before`, or from nothing. */
  constructor(before?: Traffic) {
    this.requests = [...(before?.requests ?? [])];
    if (before === undefined) return;
    this.connections = before.connections;
    this.readBytes = before.readBytes;
    this.writtenBytes = before.writtenBytes;
  }

  /** One more connection. */
  add({ requests, readBytes, writtenBytes }: Transmission): void {
    this.connections++;
    this.readBytes += readBytes;
    this.writtenBytes += writtenBytes;
    for (const [command, count] of requests.entries())
      this.requests[command] = (this.requests[command] ?? 0) + count;
  }

  describe(name: string): ExportTraffic {
    const { connections, readBytes, writtenBytes } = this;
    const of = (command: number): number => this.requests[command] ?? 0;
    const requests = {
      read: of(Command.READ),
      write: of(Command.WRITE),
      flush: of(Command.FLUSH),
      trim: of(Command.TRIM),
      cache: of(Command.CACHE),
      writeZeroes: of(Command.WRITE_ZEROES),
      blockStatus: of(Command.BLOCK_STATUS),
    };
    return { name, connections, requests, readBytes, writtenBytes };
  }
}
