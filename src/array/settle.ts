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
