/**
 * The other thread of barrier.test.ts: plays the sync, or a second thread of writers. Plain
 * JavaScript over the compiled program, because a worker thread runs files as they are.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Regions } from "../../dist/bitmap/regions.js";

const { role, shared, inside, milliseconds, seed } = workerData;
const regions = Regions.attach(shared);
const guards = new Int32Array(inside);
const conditions = { absent: false, degraded: false, lazyParity: false };
const ends = performance.now() + milliseconds;

let state = seed | 0;
function below(limit) {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return (state >>> 8) % limit;
}

const roles = {
  sync() {
    let windows = 0;
    let violations = 0;
    while (performance.now() < ends) {
      const first = below(regions.count);
      const end = Math.min(regions.count, first + 1 + below(4));
      regions.openWindow(first, end);
      regions.drainBlocking(first, end);
      for (let look = 0; look < 20 + below(200); look++) {
        for (let region = first; region < end; region++) {
          if (Atomics.load(guards, region) !== 0) violations++;
        }
      }
      regions.closeWindow();
      windows++;
    }
    return { windows, violations };
  },

  /** Windows over the same regions, one at the heels of the other; the first guard counts them. */
  insistent() {
    while (performance.now() < ends) {
      regions.admitBlocking();
      regions.openWindow(0, regions.count);
      Atomics.add(guards, 0, 1);
      regions.drainBlocking(0, regions.count);
      const until = performance.now() + 1;
      while (performance.now() < until);
      regions.closeWindow();
    }
    return { windows: guards[0] };
  },

  async writer() {
    let writes = 0;
    while (performance.now() < ends) {
      const first = below(regions.count);
      const last = Math.min(regions.count - 1, first + below(3));
      await regions.enter(first, last);
      for (let region = first; region <= last; region++) Atomics.add(guards, region, 1);
      for (let region = first; region <= last; region++) Atomics.sub(guards, region, 1);
      regions.leave(first, last);
      writes++;
    }
    return { writes };
  },

  applier() {
    const balance = new Array(regions.count).fill(0);
    while (performance.now() < ends) {
      const region = below(regions.count);
      const action = [0, 5][below(2)]; // Startwrite, Daemon
      const before = regions.apply(region, action, conditions);
      if (before === 1 && action === 0) balance[region]++;
      if (before === 2 && action === 5) balance[region]--;
    }
    return { balance };
  },
};

// A wait for other threads does not keep a thread alive by itself.
const alive = setInterval(() => undefined, 1000);
parentPort.postMessage(await roles[role]());
clearInterval(alive);
