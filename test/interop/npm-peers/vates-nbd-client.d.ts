/** What the tests use of @vates/nbd-client 3.6.0, which declares no types. */

declare module "@vates/nbd-client" {
  export interface Settings {
    readonly address: string;
    /** Goes to Node's Socket.connect as it is, which takes the path of a Unix socket as well. */
    readonly port: number | string;
    readonly exportname: string;
    /** Any text at all makes it ask for TLS. PEM, if it is not empty. */
    readonly cert?: string;
  }

  export interface Options {
    /** How often a read is sent before its failure is told. */
    readonly readBlockRetries?: number;
    readonly waitBeforeReconnect?: number;
    /** Milliseconds. */
    readonly messageTimeout?: number;
  }

  /** Of base:allocation. */
  export interface MapEntry {
    readonly offset: number;
    readonly length: number;
    readonly type: number;
  }

  export interface BlockReader {
    readonly exportSize: bigint;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    /** From byte `index * size` on; shorter only at the end of the export. */
    readBlock(index: number, size: number): Promise<Buffer>;
    /** By nbdinfo, with a URI of the address and the port. */
    getMap(): Promise<MapEntry[]>;
  }

  export class NbdTcpClient implements BlockReader {
    constructor(settings: Settings, options?: Options);
    readonly exportSize: bigint;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    /** After a refused read no other is answered until then. */
    reconnect(): Promise<void>;
    readBlock(index: number, size: number): Promise<Buffer>;
    getMap(): Promise<MapEntry[]>;
  }
}

declare module "@vates/nbd-client/multi.mjs" {
  import type { BlockReader, MapEntry, Options, Settings } from "@vates/nbd-client";

  class MultiNbdClient implements BlockReader {
    constructor(
      settings: Settings,
      options?: Options & {
        /** Connections. */
        readonly nbdConcurrency?: number;
        /** Of `readBlocks`, over all connections. */
        readonly readAhead?: number;
      },
    );
    readonly exportSize: bigint;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    readBlock(index: number, size: number): Promise<Buffer>;
    /** In the order in which they are asked for. */
    readBlocks(
      blocks: () => Iterable<{ readonly index: number; readonly size: number }>,
    ): AsyncIterable<Buffer>;
    getMap(): Promise<MapEntry[]>;
  }
  export { MultiNbdClient as default };
}

declare module "@vates/nbd-client/NbdDisk.mjs" {
  import type { Settings } from "@vates/nbd-client";

  export class NbdDisk {
    constructor(settings: Settings, blockSize: number);
    /** Connects, and asks for the map. */
    init(): Promise<void>;
    close(): Promise<void>;
    getVirtualSize(): number;
    /** Of blocks that have data. */
    getBlockIndexes(): number[];
    readBlock(index: number): Promise<{ readonly index: number; readonly data: Buffer }>;
  }
}
