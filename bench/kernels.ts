/**
 * `npm run bench:kernels`: the parity kernels in plain TypeScript and in WebAssembly, on ordinary
 * buffers and on allocated ones. Prints Markdown: GB/s of the data blocks that a call is about, the
 * best of many rounds, since others on the machine only ever make one slower.
 */
import { cpus } from "node:os";
import type { Kernels } from "../src/parity/kernels.ts";
import { plainKernels } from "../src/parity/plain.ts";
import { wasmKernels } from "../src/parity/wasm.ts";

const DATA_DISKS = 6;
/** Many short rounds: on a busy machine some still have a core for themselves. */
const ROUNDS = 200;
const ROUND_BYTES = 2e6;
const WARM_UP_CALLS = 2000;
const BLOCK_BYTES = [4096, 65_536];

/** Where blocks lie. */
interface Place {
  readonly title: string;
  readonly kernels: Kernels;
  readonly block: (bytes: number) => Uint8Array;
}

interface Stripe {
  readonly data: readonly Uint8Array[];
  readonly p: Uint8Array;
  readonly q: Uint8Array;
}

interface Scenario {
  readonly title: string;
  /** How many data blocks a call is about: their bytes count. */
  readonly blocks: number;
  run(kernels: Kernels, stripe: Stripe): void;
}

const EXPONENTS = Array.from({ length: DATA_DISKS }, (_, index) => index);

const SCENARIOS: readonly Scenario[] = [
  {
    title: `P and Q of ${DATA_DISKS}`,
    blocks: DATA_DISKS,
    run: (kernels, { data, p, q }) => kernels.pq(p, q, data, EXPONENTS),
  },
  {
    title: `XOR of ${DATA_DISKS}`,
    blocks: DATA_DISKS,
    run: (kernels, { data, p }) => kernels.xor(p, data),
  },
  {
    title: "XOR of 1 into P",
    blocks: 1,
    run: (kernels, { data, p }) => kernels.xorInto(p, data.slice(0, 1)),
  },
  {
    title: "multiple of 1 into Q",
    blocks: 1,
    run: (kernels, { data, q }) => kernels.multiplyInto(q, data[1]!, 1),
  },
  {
    title: `1 lost of ${DATA_DISKS}, by Q`,
    blocks: DATA_DISKS,
    run: (kernels, { data, q }) => kernels.recover(data, [2], null, q, EXPONENTS),
  },
  {
    title: `2 lost of ${DATA_DISKS}, by P and Q`,
    blocks: DATA_DISKS,
    run: (kernels, { data, p, q }) => kernels.recover(data, [1, 4], p, q, EXPONENTS),
  },
];

const wasm = wasmKernels();
const ordinary = (bytes: number): Uint8Array => new Uint8Array(bytes);
const unaligned = (bytes: number): Uint8Array => new Uint8Array(bytes + 3).subarray(3);
const PLACES: readonly Place[] = [
  { title: "plain", kernels: plainKernels, block: ordinary },
  { title: "plain, unaligned", kernels: plainKernels, block: unaligned },
  { title: "wasm", kernels: wasm, block: ordinary },
  { title: "wasm, unaligned", kernels: wasm, block: unaligned },
  { title: "wasm, allocated", kernels: wasm, block: (bytes) => wasm.allocate(bytes) },
];

function measure(scenario: Scenario, { kernels }: Place, stripe: Stripe): number {
  const bytes = scenario.blocks * stripe.p.length;
  const calls = Math.ceil(ROUND_BYTES / bytes);
  for (let call = 0; call < WARM_UP_CALLS; call++) scenario.run(kernels, stripe);
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let call = 0; call < calls; call++) scenario.run(kernels, stripe);
    // Bytes a nanosecond are GB/s.
    best = Math.max(best, (calls * bytes) / Number(process.hrtime.bigint() - start));
  }
  return best;
}

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

console.log(`Node ${process.version}, ${cpus()[0]?.model.trim()}; GB/s of data blocks.`);
for (const bytes of BLOCK_BYTES) {
  console.log(`\n${row([`blocks of ${bytes / 1024} KiB`, ...PLACES.map(({ title }) => title)])}`);
  console.log(row(["---", ...PLACES.map(() => "---:")]));
  const stripes = PLACES.map(({ block }) => {
    const data = EXPONENTS.map((exponent) => block(bytes).fill(exponent + 1));
    return { data, p: block(bytes), q: block(bytes) };
  });
  for (const scenario of SCENARIOS) {
    const rates = PLACES.map((place, index) => measure(scenario, place, stripes[index]!));
    console.log(row([scenario.title, ...rates.map((rate) => rate.toFixed(1))]));
  }
}
