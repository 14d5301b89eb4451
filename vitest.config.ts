import { defineConfig } from "vitest/config";

const long = process.env["NBD_RAID_LONG"] === "1";

/**
 * Projects: `unit` needs no other program; `interop` runs programs of others against the built
 * server (and kills it); `guest` boots Linux kernels against it;
 * `container` builds the image and runs it. NBD_RAID_LONG=1 makes the seeded suites take their long form.
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
          maxWorkers: "100%",
          exclude: ["test/interop/**", "test/crash/**", "test/guest/**", "test/container/**"],
        },
      },
      {
        extends: true,
        test: {
          name: "interop",
          include: ["test/interop/**/*.test.ts", "test/crash/**/*.test.ts"],
          // They wait more than they work; with more at once their servers would be starved.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: long ? 3_600_000 : 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: "guest",
          include: ["test/guest/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: long ? 3_600_000 : 900_000,
          // A kernel that is not in the cache is made first.
          hookTimeout: 3_600_000,
        },
      },
      {
        extends: true,
        test: {
          name: "container",
          include: ["test/container/**/*.test.ts"],
          globalSetup: ["test/container/build-image.ts"],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
