/** The arrays that md makes and that this program takes over. */
import { LAYOUTS } from "../raid/oracle-shapes.ts";
import type { Bitmap, Carried, State } from "./carried.ts";
import { DEBIAN, type Kernel, LLBITMAP } from "./kernels.ts";

/** One array, as `mdadm --create` is asked for it. */
export interface MdCase extends Carried {
  readonly members: number;
  /** Null where mdadm is not told any. */
  readonly chunkKib: number | null;
  /** Looked at in the short form, too. */
  readonly short: boolean;
}

interface Shape extends Pick<Carried, "level" | "layout"> {
  readonly members: number;
}

const CHUNKS_KIB = [64, 4, 512, 16];
const CHUNKLESS = new Set(["linear", "1"]);
/** Each bitmap gets each of them, however many bitmaps a kernel has. */
const chunkFor = (index: number): number =>
  CHUNKS_KIB[(index + Math.floor(index / CHUNKS_KIB.length)) % CHUNKS_KIB.length]!;
/** What an array with parity has of members, at the least that shows all of its layout. */
const MEMBERS: Readonly<Record<string, number>> = { linear: 3, "0": 3, "1": 2, "4": 4, "5": 4 };
const MEMBERS_6 = 5;
const MEMBERS_10: Readonly<Record<string, readonly number[]>> = {
  n2: [4, 3],
  n3: [5],
  f2: [4, 3],
  f3: [5],
  o2: [4, 3],
  o3: [5],
};

const SHAPES: readonly Shape[] = LAYOUTS.flatMap(({ level, name: layout }) => {
  const sizes = level === "10" ? MEMBERS_10[layout!]! : [MEMBERS[level] ?? MEMBERS_6];
  return sizes.map((members) => ({ level, layout, members }));
});

const REDUNDANT = new Set(["1", "4", "5", "6", "10"]);
/** Of these a sync that was cut short, a crash and a lost member are looked at, too. */
const TRIED: readonly Shape[] = [
  { level: "1", layout: null, members: 3 },
  { level: "4", layout: null, members: 3 },
  { level: "5", layout: "left-symmetric", members: 4 },
  { level: "6", layout: "left-symmetric", members: 5 },
  { level: "10", layout: "n2", members: 4 },
  { level: "10", layout: "f2", members: 4 },
];
const BROKEN: readonly State[] = ["syncing", "degraded", "killed"];

/** What the short form looks at, all on Debian's kernel. */
const SHORT = new Set([
  "clean linear none",
  "clean 0 original none",
  "clean 1 internal",
  "clean 5 left-symmetric internal",
  "clean 6 left-symmetric none",
  "clean 10 f2 internal",
  "syncing 5 left-symmetric none",
  "degraded 6 left-symmetric internal",
  "killed 1 internal",
  "killed 5 left-symmetric internal",
]);

export const MD_TO_OURS: readonly MdCase[] = [DEBIAN, LLBITMAP].flatMap((kernel) => {
  const bitmapsOf = (level: string): readonly Bitmap[] =>
    REDUNDANT.has(level) ? kernel.bitmaps : ["none"];
  // LLBITMAP is compiled without MD_LINEAR.
  const shapes = SHAPES.filter(({ level }) => kernel === DEBIAN || level !== "linear");
  const clean = shapes.flatMap((shape) =>
    bitmapsOf(shape.level).map((bitmap) => caseOf(kernel, shape, bitmap, "clean")),
  );
  const broken = BROKEN.flatMap((state) =>
    TRIED.flatMap((shape) => kernel.bitmaps.map((bitmap) => caseOf(kernel, shape, bitmap, state))),
  );
  return [...clean, ...broken].map((one, index) => ({
    ...one,
    chunkKib: CHUNKLESS.has(one.level) ? null : chunkFor(index),
  }));
});

function caseOf(kernel: Kernel, shape: Shape, bitmap: Bitmap, state: State): MdCase {
  const words = [state, shape.level, shape.layout, bitmap].filter((word) => word !== null);
  return {
    direction: "md-to-ours",
    kernel: kernel.name,
    ...shape,
    bitmap,
    state,
    chunkKib: null,
    short: kernel === DEBIAN && SHORT.has(words.join(" ")),
  };
}

export function titleOf({ level, layout, members, chunkKib, bitmap }: MdCase): string {
  const words = [
    `level ${level}`,
    layout,
    `of ${members}`,
    chunkKib === null ? null : `in chunks of ${chunkKib}K`,
    bitmap === "none" ? "without a bitmap" : `with a bitmap that is ${bitmap}`,
  ];
  return words.filter((word) => word !== null).join(" ");
}
