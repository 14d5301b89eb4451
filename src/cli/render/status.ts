import type { ArrayStatus, BitmapStatus, MemberStatus } from "../../array/status.ts";
import type { Connection, StatusDocument } from "../../control/api.ts";
import { formatBytes, formatDuration } from "../sizes.ts";
import type { Colour, Paint } from "../terminal.ts";
import { adviceFor } from "./advice.ts";
import { printable } from "./printable.ts";
import { renderTable } from "./table.ts";
import { SYNC_PARTICIPLES, percent, renderLastSync, renderSync, syncFraction } from "./sync.ts";

/** `nbd-raid status` for people. */
export function renderStatus(document: StatusDocument, paint: Paint): string {
  const { arrays, connections } = printable(document);
  const blocks = arrays.map((array) => renderArray(array, paint));
  if (connections.length > 0) blocks.push(renderConnections(connections));
  return blocks.join("\n");
}

export function renderArray(array: ArrayStatus, paint: Paint): string {
  const advice = adviceFor(array);
  const lines: [label: string, text: string][] = [
    ["array", paint("bold", array.name)],
    ["state", paint(healthColour(array), stateInWords(array))],
    ["level", levelInWords(array)],
    ["size", `${formatBytes(array.size)} (${array.size} bytes)`],
    ["uuid", `${array.uuid}, events ${array.events}`],
  ];
  if (advice !== null) {
    lines.push(["status", paint(healthColour(array), advice.status)], ["action", advice.action]);
  }
  lines.push(["slots", slotMap(array.members)]);
  if (array.bitmap !== null) lines.push(["bitmap", renderBitmap(array.bitmap)]);
  if (array.sync !== null) lines.push([array.sync.action, renderSync(array.sync)]);
  if (array.lastSync !== null) lines.push(["last", renderLastSync(array.lastSync)]);
  if (array.mismatchCount > 0) lines.push(["mismatch", `${array.mismatchCount} sectors`]);
  const head = lines.map(([label, text]) => `${`${label}:`.padStart(9)} ${text}\n`).join("");
  return `${head}\n${renderMembers(array.members, paint)}`;
}

/** One line, for after a change: `data: active, degraded, recovering 12.6% [U_], 128 sectors differ` */
export function renderSummary(status: ArrayStatus): string {
  const array = printable(status);
  const { sync } = array;
  const done = sync === null || sync.pending ? "" : ` ${percent(syncFraction(sync))}`;
  const differ = array.mismatchCount === 0 ? "" : `, ${array.mismatchCount} sectors differ`;
  return `${array.name}: ${stateInWords(array)}${done} ${slotMap(array.members)}${differ}\n`;
}

/** mdadm's State line: `active, degraded, recovering`. */
export function stateInWords({ state, degraded, sync }: ArrayStatus): string {
  const words: string[] = [state];
  if (degraded > 0) words.push("degraded");
  if (sync !== null) words.push(SYNC_PARTICIPLES[sync.action] + (sync.pending ? " (pending)" : ""));
  return words.join(", ");
}

/** `[UU_]`: a U for every slot in sync. */
export function slotMap(members: readonly MemberStatus[]): string {
  const slots = members.filter(({ slot }) => slot !== null);
  return `[${slots.map(({ state }) => (state === "in_sync" ? "U" : "_")).join("")}]`;
}

function healthColour({ state, degraded, sync }: ArrayStatus): Colour {
  if (state === "failed") return "red";
  return degraded > 0 || sync !== null ? "yellow" : "green";
}

function levelInWords({ level, raidDisks, layout, chunkSize }: ArrayStatus): string {
  const words = [/^\d/.test(level) ? `raid${level}` : level, `${raidDisks} slots`];
  if (layout !== null) words.push(layout);
  if (chunkSize !== null) words.push(`chunk ${formatBytes(chunkSize)}`);
  return words.join(", ");
}

function renderBitmap(bitmap: BitmapStatus): string {
  const counts = [
    `${bitmap.unwritten} unwritten`,
    `${bitmap.clean} clean`,
    `${bitmap.dirty} dirty`,
    `${bitmap.needSync} need sync`,
    `${bitmap.syncing} syncing`,
  ];
  const history = [`${bitmap.blocksWritten} blocks written`, `${bitmap.infections} infections`];
  if (bitmap.oldestDirtySeconds !== null)
    history.push(`oldest dirty ${formatDuration(bitmap.oldestDirtySeconds)}`);
  return (
    `${bitmap.type}, ${bitmap.regions} regions of ${formatBytes(bitmap.regionSize)}: ` +
    `${counts.join(", ")}; ${history.join(", ")}`
  );
}

const MEMBER_COLOURS: Partial<Record<MemberStatus["state"], Colour>> = {
  faulty: "red",
  missing: "red",
  rebuilding: "yellow",
};

function renderMembers(members: readonly MemberStatus[], paint: Paint): string {
  return renderTable(
    [
      { title: "slot", right: true },
      { title: "state" },
      { title: "read errors", right: true },
      { title: "write errors", right: true },
      { title: "path" },
    ],
    members.map((member) => {
      const colour = MEMBER_COLOURS[member.state];
      return {
        cells: [
          member.slot === null ? "-" : String(member.slot),
          member.state,
          String(member.readErrors),
          String(member.writeErrors),
          (member.path ?? "-") + notesOn(member),
        ],
        ...(colour === undefined ? {} : { paint: (line: string) => paint(colour, line) }),
      };
    }),
  );
}

function notesOn({ writeMostly, unlinked }: MemberStatus): string {
  const notes = [writeMostly ? "write-mostly" : null, unlinked ? "deleted" : null];
  const words = notes.filter((note) => note !== null);
  return words.length === 0 ? "" : ` (${words.join(", ")})`;
}

function renderConnections(connections: readonly Connection[]): string {
  return renderTable(
    [
      { title: "client" },
      { title: "export" },
      { title: "tls" },
      { title: "in flight", right: true },
      { title: "read", right: true },
      { title: "written", right: true },
    ],
    connections.map((one) => ({
      cells: [
        one.peer,
        one.export,
        one.tls ? "yes" : "no",
        String(one.inFlight),
        formatBytes(one.readBytes),
        formatBytes(one.writtenBytes),
      ],
    })),
  );
}
