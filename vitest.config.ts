import { defineConfig } from "vitest/config";

const long = process.env["NBD_RAID_LONG"] === "1";

/**
 * Two projects: `unit` needs no other program; `interop` runs programs of others against the
 * built server (and kills it). NBD_RAID_LONG=1 makes the seeded suites take their long form.
 */
export default defineConfig({
  test: {
    testTimeout: long ? 3_600_000 : 30_000,
    hookTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/interop/**", "test/crash/**"],
        },
      },
      {
        extends: true,
        test: {
          name: "interop",
          include: ["test/interop/**/*.test.ts", "test/crash/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: long ? 3_600_000 : 180_000,
        },
      },
    ],
  },
});
