import { Type, type Static, type TSchema } from "typebox";
import { DELAY_MS_MAX } from "../clock.ts";

/**
 * The shapes of the control API. They are the contract: requests are checked against them,
 * replies too, and the OpenAPI document is made of them. The handlers and the client are typed
 * with both these and `array/status.ts`, so the compiler notices when the two part.
 */

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);
const strict = { additionalProperties: false };

const Bytes = Type.Integer({ minimum: 0, description: "bytes" });
const Count = Type.Integer({ minimum: 0 });
const UnixSeconds = Type.Integer({ description: "Unix seconds" });

const MemberSchema = Type.Object(
  {
    slot: nullable(Count),
    path: nullable(Type.String()),
    state: Type.Enum(["in_sync", "rebuilding", "spare", "faulty", "missing"]),
    writeMostly: Type.Boolean(),
    readErrors: Count,
    writeErrors: Count,
    unlinked: Type.Boolean(),
  },
  strict,
);

const BitmapSchema = Type.Object(
  {
    type: Type.Enum(["lockless", "internal"]),
    regionSize: Bytes,
    regions: Count,
    unwritten: Count,
    clean: Count,
    dirty: Count,
    needSync: Count,
    syncing: Count,
    blocksWritten: Count,
    infections: Count,
    daemonLastRun: nullable(UnixSeconds),
    oldestDirtySeconds: nullable(Count),
  },
  strict,
);

const SyncAction = Type.Enum(["resync", "recovery", "check", "repair", "reshape"]);

const SyncSchema = Type.Object(
  {
    action: SyncAction,
    pending: Type.Boolean(),
    waitingFor: nullable(Type.String()),
    doneBytes: Bytes,
    totalBytes: Bytes,
    skippedBytes: Bytes,
    bytesPerSecond: Bytes,
    etaSeconds: nullable(Count),
  },
  strict,
);

const LastSyncSchema = Type.Object(
  {
    action: SyncAction,
    startedAt: UnixSeconds,
    finishedAt: UnixSeconds,
    result: Type.Enum(["done", "stopped", "failed"]),
    failure: nullable(Type.String({ description: "why it failed" })),
    readBytes: Bytes,
    writtenBytes: Bytes,
    skippedBytes: Bytes,
  },
  strict,
);

/** How often stripes were written in which way. */
const StripeWritesSchema = Type.Object(
  {
    full: Type.Integer({ minimum: 0, description: "all of the data was new" }),
    reconstruct: Type.Integer({ minimum: 0, description: "the rest of the data was read" }),
    modify: Type.Integer({ minimum: 0, description: "old data and parity were read" }),
  },
  strict,
);

export const ArraySchema = Type.Object(
  {
    name: Type.String(),
    uuid: Type.String({ description: "as mdadm prints it" }),
    level: Type.Enum(["0", "1", "4", "5", "6", "10", "linear"]),
    layout: nullable(Type.String()),
    chunkSize: nullable(Bytes),
    size: Bytes,
    raidDisks: Count,
    events: Count,
    state: Type.Enum(["clean", "active", "failed", "read-only"]),
    degraded: Count,
    mismatchCount: Type.Integer({ minimum: 0, description: "sectors, as md counts them" }),
    knownZero: Type.Boolean(),
    suspectBytes: Bytes,
    stripeWrites: nullable(StripeWritesSchema),
    members: Type.Array(MemberSchema),
    bitmap: nullable(BitmapSchema),
    sync: nullable(SyncSchema),
    lastSync: nullable(LastSyncSchema),
  },
  strict,
);

const ConnectionSchema = Type.Object(
  {
    export: Type.String(),
    peer: Type.String(),
    tls: Type.Boolean(),
    inFlight: Count,
    readBytes: Bytes,
    writtenBytes: Bytes,
  },
  strict,
);
/** One NBD client, as `status` shows it. */
export type Connection = Static<typeof ConnectionSchema>;

/** What clients have asked of an export since the start; refused requests do not count. */
const ExportSchema = Type.Object(
  {
    name: Type.String(),
    connections: Type.Integer({ minimum: 0, description: "that chose it, past ones too" }),
    requests: Type.Object(
      {
        read: Count,
        write: Count,
        flush: Count,
        trim: Count,
        cache: Count,
        writeZeroes: Count,
        blockStatus: Count,
      },
      strict,
    ),
    readBytes: Bytes,
    writtenBytes: Bytes,
  },
  strict,
);
/** One export's traffic, as `status --json` shows it. */
export type ExportTotals = Static<typeof ExportSchema>;

export const StatusSchema = Type.Object(
  {
    version: Type.Literal(1),
    arrays: Type.Array(ArraySchema),
    exports: Type.Array(ExportSchema),
    connections: Type.Array(ConnectionSchema),
  },
  strict,
);
/** What `nbd-raid status --json` prints. */
export type StatusDocument = Static<typeof StatusSchema>;

export const StatusQuery = Type.Object(
  { array: Type.Optional(Type.String({ description: "only this array and its connections" })) },
  strict,
);

export const ArrayParams = Type.Object({ name: Type.String({ description: "the array's name" }) });

const member = Type.String({ minLength: 1, description: "an absolute path, or a slot number" });
export const MemberBody = Type.Object({ member }, strict);
export const AddBody = Type.Object({ member, writeMostly: Type.Boolean() }, strict);

export const SyncBody = Type.Object(
  { verb: Type.Enum(["check", "repair", "resync", "idle", "frozen"]) },
  strict,
);

const milliseconds = Type.Integer({
  minimum: 0,
  maximum: DELAY_MS_MAX,
  description: "milliseconds",
});
const speed = Type.Integer({ minimum: 0, description: "bytes a second, 0 for no limit" });
export const SettingsBody = Type.Partial(
  Type.Object({
    syncSpeedMin: speed,
    syncSpeedMax: speed,
    daemonSleepMs: milliseconds,
    barrierIdleMs: milliseconds,
  }),
  { ...strict, minProperties: 1 },
);

export const Nothing = Type.Object({}, strict);
export const Stopped = Type.Object(
  { pid: Type.Integer({ description: "of the server, which exits now" }) },
  strict,
);

export const ErrorSchema = Type.Object(
  {
    code: Type.String({ description: "a stable word" }),
    message: Type.String({ description: "what, and which object" }),
    remedy: Type.String({ description: "what to do next" }),
  },
  strict,
);
/** How an error travels, here and in `--json` output. */
export type ErrorDocument = Static<typeof ErrorSchema>;
