/** What a client and the server have agreed on before an export is chosen. */
import type { Export } from "./block-device.ts";
import type { MetaContext } from "./meta-contexts.ts";

export interface Negotiated {
  readonly structured: boolean;
  /** Takes precedence over `structured`. */
  readonly extended: boolean;
  /** The last successful SET_META_CONTEXT; null: none, or one that failed came after it. */
  readonly contexts: SelectedContexts | null;
}

export interface SelectedContexts {
  /** They count only for this export. */
  readonly exported: Export;
  readonly selected: readonly MetaContext[];
}

export const NOTHING_NEGOTIATED: Negotiated = {
  structured: false,
  extended: false,
  contexts: null,
};

/** The metadata contexts that count in the transmission of this export. */
export function contextsOf({ contexts }: Negotiated, exported: Export): readonly MetaContext[] {
  return contexts?.exported === exported ? contexts.selected : [];
}
