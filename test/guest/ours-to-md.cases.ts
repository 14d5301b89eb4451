/** The arrays that are made and filled by us, and taken over by md. */
import { LAYOUTS, type Layout, titleOf } from "../raid/oracle-shapes.ts";
import type { Bitmap, Carried, State } from "./carried.ts";
import { DEBIAN, type Kernel, LLBITMAP } from "./kernels.ts";

export interface OursToMd extends Carried {
  readonly title: string;
  readonly members: number;
  /** 0: the level has none. */
  readonly chunkKib: number;
  /** Of each image, where they are not alike. */
  readonly imageKib?: readonly number[];
  /** What is used of each member otherwise. */
  readonly memberMib: number;
  /** The bitmap that it was made with, where another was put in its place by `convert`. */
  readonly madeWith?: Bitmap;
  /** Also in the short form. */
  readonly isSample: boolean;
}

/** Three sizes, none of them whole chunks: two zones of level 0 where several members are left. */
const UNEQUAL_KIB = [7 * 1024 + 300, 12 * 1024 + 40, 10 * 1024 + 900];
const CHUNKS_KIB = [64, 4, 512];
const SMALL_MIB = 8;
/** Enough that what a part of it costs is told from what all of it would. */
const MEDIUM_MIB = 32;
/** A block of the lockless bitmap, which a stream of writes marks as a whole, covers 32 MiB. */
const LARGE_MIB = 96;

const MEMBERS: Record<string, readonly number[]> = { "1": [2], "4": [3], "5": [4], "6": [5] };

function memberCounts({ level, name }: Layout): readonly number[] {
  if (level === "10") return name === "n3" || name?.endsWith("3") ? [4, 5] : [4, 3];
  return MEMBERS[level] ?? [3];
}

const SAMPLES: readonly (readonly [level: string, layout: string | null, Bitmap, State])[] = [
  ["0", "original", "none", "clean"],
  ["linear", null, "none", "clean"],
  ["5", "left-symmetric", "none", "clean"],
  ["10", "o2", "none", "clean"],
  ["6", "left-symmetric", "internal", "degraded"],
  ["1", null, "internal", "killed"],
];

function caseOf(
  kernel: Kernel,
  layout: Layout,
  bitmap: Bitmap,
  state: State,
  members: number,
  chunk = 64,
): OursToMd {
  const { level, name } = layout;
  const isSample =
    kernel === DEBIAN &&
    members === memberCounts(layout).at(-1) &&
    SAMPLES.some((sample) => [level, name, bitmap, state].every((part, i) => part === sample[i]));
  const regionalMib = bitmap === "lockless" ? LARGE_MIB : MEDIUM_MIB;
  return {
    ...{ direction: "ours-to-md", kernel: kernel.name, level, layout: name, bitmap, state },
    title: `${titleOf(layout)} of ${members}, bitmap ${bitmap}, ${state}`,
    members,
    chunkKib: level === "1" || level === "linear" ? 0 : chunk,
    ...(level === "linear" || level === "0" ? { imageKib: UNEQUAL_KIB } : {}),
    memberMib: state === "clean" ? SMALL_MIB : bitmap === "none" ? SMALL_MIB : regionalMib,
    isSample,
  };
}

const of = (levels: readonly string[]): readonly Layout[] =>
  LAYOUTS.filter(({ level, name }) => levels.includes(name === null ? level : `${level} ${name}`));

/** Every layout, with members and chunks of several numbers and sizes. */
const clean = (kernel: Kernel, bitmap: Bitmap, layouts: readonly Layout[]): OursToMd[] =>
  layouts.flatMap((layout, at) =>
    memberCounts(layout).map((members, more) => {
      const chunk = CHUNKS_KIB[(at + more) % CHUNKS_KIB.length];
      return caseOf(kernel, layout, bitmap, "clean", members, chunk);
    }),
  );

const inState = (kernel: Kernel, bitmap: Bitmap, state: State, levels: readonly string[]) =>
  of(levels).map((layout) => caseOf(kernel, layout, bitmap, state, memberCounts(layout)[0]!));

/** Filled with another bitmap, stopped clean, and converted. */
function converted(kernel: Kernel, level: string, madeWith: Bitmap, bitmap: Bitmap): OursToMd {
  const [layout] = of([level]);
  const one = caseOf(kernel, layout!, bitmap, "clean", memberCounts(layout!)[0]!);
  return { ...one, madeWith, title: `${one.title}, converted from ${madeWith}`, isSample: false };
}

export const isRedundant = ({ level }: Pick<Carried, "level">): boolean =>
  level !== "0" && level !== "linear";

const LEVEL_0 = LAYOUTS.filter(({ level }) => level === "0");
const REDUNDANT = LAYOUTS.filter(isRedundant);
const COMMON = ["1", "4", "5 left-symmetric", "6 left-symmetric", "10 n2", "10 f2", "10 o2"];
/** The kernel loses data of an array of level 10 here: see docs/reference/carried-over.md. */
const BUT_10 = COMMON.filter((level) => !level.startsWith("10"));

export const OURS_TO_MD: readonly OursToMd[] = [
  ...clean(DEBIAN, "none", LAYOUTS),
  ...inState(DEBIAN, "none", "killed", COMMON),
  ...inState(DEBIAN, "none", "degraded", COMMON),
  // The kernel is compiled without MD_LINEAR.
  ...clean(LLBITMAP, "none", LEVEL_0),
  ...clean(LLBITMAP, "lockless", REDUNDANT),
  ...inState(LLBITMAP, "lockless", "killed", COMMON),
  ...inState(LLBITMAP, "lockless", "degraded", BUT_10),
  ...[DEBIAN, LLBITMAP].flatMap((kernel) => [
    ...clean(kernel, "internal", of(COMMON)),
    ...inState(kernel, "internal", "killed", COMMON),
    ...inState(kernel, "internal", "degraded", COMMON),
  ]),
  { ...converted(DEBIAN, "5 left-symmetric", "lockless", "internal"), isSample: true },
  converted(DEBIAN, "1", "lockless", "none"),
  converted(DEBIAN, "10 n2", "none", "internal"),
  converted(LLBITMAP, "1", "internal", "lockless"),
  converted(LLBITMAP, "5 left-symmetric", "none", "lockless"),
  converted(LLBITMAP, "6 left-symmetric", "internal", "lockless"),
  converted(LLBITMAP, "10 f2", "lockless", "internal"),
];
