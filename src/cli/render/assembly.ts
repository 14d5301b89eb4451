import type { AssemblyReport } from "../../array/check-assembly.ts";
import { formatBytes } from "../sizes.ts";
import { printable } from "./printable.ts";
import { renderTable } from "./table.ts";

const VERDICTS: Record<AssemblyReport["verdict"], string> = {
  start: "would start",
  "needs --run": "would start only with --run",
  "needs --force": "would start only with --force",
  refused: "would not start",
};

/** What `serve` would do with an array's members, and why. */
export function renderAssembly(found: AssemblyReport): string {
  const report = printable(found);
  const { name, uuid, raidDisks, verdict, reason, sync } = report;
  const inUse = report.members.filter(({ use }) => use === "in_sync").length;
  const lines = [
    `${name}: ${VERDICTS[verdict]}${reason === null ? "" : `: ${reason}`}`,
    `  level ${levelInWords(report)}, ${inUse} of ${raidDisks} slots in sync, uuid ${uuid}`,
  ];
  if (sync !== null) lines.push(`  sync: ${sync}`);
  return `${lines.join("\n")}\n\n${renderMembers(report)}`;
}

function levelInWords({ level, layout, chunkSize }: AssemblyReport): string {
  const chunk = chunkSize === null ? null : `chunk ${formatBytes(chunkSize)}`;
  return [level, layout, chunk].filter((word) => word !== null).join(", ");
}

function renderMembers({ members }: AssemblyReport): string {
  return renderTable(
    [
      { title: "slot", right: true },
      { title: "events", right: true },
      { title: "use" },
      { title: "path" },
      { title: "why" },
    ],
    members.map(({ slot, events, use, path, reason }) => ({
      cells: [slot === null ? "-" : String(slot), String(events), use, path, reason ?? ""],
    })),
  );
}
