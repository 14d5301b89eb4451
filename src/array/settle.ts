/**
 * The results of all, in order. If some fail, throws the first failure in that order, and only
 * when the others have ended too: nothing is under way any more.
 */
export async function settleAll<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return Promise.all(work);
}

/** Fewer than what koffi has room for (max_async_calls): an array may have more members. */
const AT_ONCE_MAX = 64;

/**
 * `work` on each item, so many at a time, as {@link settleAll}: after a failure no more is begun.
 */
export async function settleEach<Item, T>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  for (let start = 0; start < items.length; start += AT_ONCE_MAX) {
    const some = items.slice(start, start + AT_ONCE_MAX);
    results.push(...(await settleAll(some.map((item, index) => work(item, start + index)))));
  }
  return results;
}
