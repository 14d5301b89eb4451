import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createKernels } from "../../src/parity/create.ts";
import { plainKernels } from "../../src/parity/plain.ts";
import { wasmKernels } from "../../src/parity/wasm.ts";
import { holds } from "../metadata/properties.ts";
import { Blocks, copyOf, expectSame, exponentsFor, layouts } from "./blocks.ts";
import { kernelsConform } from "./conformance.ts";

kernelsConform("plain", plainKernels);
kernelsConform("wasm", wasmKernels());

describe("the two implementations", () => {
  const wasm = wasmKernels();
  const blocks = new Blocks(wasm);
  const WIDE = 12;

  test("agree on every byte of wide stripes", () => {
    holds(
      fc.property(layouts, exponentsFor(WIDE), fc.nat(254), (layout, exponents, exponent) => {
        blocks.lay(layout);
        const [p, q, ...data] = [blocks.next(), blocks.next(), ...blocks.many(WIDE)];
        const plain = [new Uint8Array(layout.length), new Uint8Array(layout.length)] as const;
        wasm.pq(p, q, data, exponents);
        plainKernels.pq(...plain, data, exponents);
        expectSame(p, plain[0], "P");
        expectSame(q, plain[1], "Q");
        wasm.multiplyInto(q, data[1]!, exponent);
        plainKernels.multiplyInto(plain[1], data[1]!, exponent);
        expectSame(q, plain[1], "Q of multiplyInto");
        wasm.xor(p, data);
        plainKernels.xor(plain[0], data);
        expectSame(p, plain[0], "xor");

        const copies = data.map(copyOf);
        const lost = [exponent % WIDE, (exponent + 1 + (exponent % (WIDE - 1))) % WIDE];
        wasm.recover(data, lost, p, q, exponents);
        plainKernels.recover(copies, lost, ...plain, exponents);
        data.forEach((block, index) => expectSame(block, copies[index]!, `block ${index}`));
      }),
    );
  });
});

describe("createKernels", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  test("takes WebAssembly where it runs", () => {
    expect(createKernels()).not.toBe(plainKernels);
  });

  test("takes plain TypeScript where there is no WebAssembly", () => {
    vi.stubGlobal("WebAssembly", undefined);
    expect(createKernels()).toBe(plainKernels);
  });
});
