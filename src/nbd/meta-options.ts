/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: which contexts there are, and count. */
import type { Export } from "./block-device.ts";
import { decodeMetaRequest, encodeMetaContext } from "./codec.ts";
import { OptionReply } from "./constants.ts";
import { decodeText, findExport, unknownExport } from "./export-names.ts";
import { isQuery, listed, selected, type MetaContext } from "./meta-contexts.ts";
import { ACK, refuse, type Answer, type Haggling } from "./option-answer.ts";

/** The id has no meaning in a list. */
const NO_ID = 0;

export function listMetaContext(data: Buffer | null, haggling: Haggling): Answer {
  const asked = decode(data, haggling);
  if ("replies" in asked) return asked;
  const found = listed(asked.exported.device, asked.queries);
  return { replies: [...found.map(({ name }) => contextReply(NO_ID, name)), ACK] };
}

/** Replaces what was selected before, also when it fails. */
export function setMetaContext(data: Buffer | null, haggling: Haggling): Answer {
  const asked = decode(data, haggling);
  if ("replies" in asked) {
    return { ...asked, negotiated: { ...haggling.negotiated, contexts: null } };
  }
  const { exported, queries } = asked;
  const found = selected(exported.device, queries);
  const contexts = { exported, selected: found };
  return {
    replies: [...found.map(({ id, name }) => contextReply(id, name)), ACK],
    negotiated: { ...haggling.negotiated, contexts },
  };
}

function contextReply(id: MetaContext["id"], name: string) {
  return { type: OptionReply.META_CONTEXT, data: encodeMetaContext(id, name) };
}

/** What both ask for, or the error they get. */
function decode(
  data: Buffer | null,
  { exports, negotiated }: Haggling,
): { exported: Export; queries: string[] } | Answer {
  if (!negotiated.structured && !negotiated.extended) {
    return refuse(OptionReply.ERR_INVALID, "send STRUCTURED_REPLY or EXTENDED_HEADERS first");
  }
  if (data === null) return refuse(OptionReply.ERR_TOO_BIG, "too many queries");
  const asked = decodeMetaRequest(data);
  if (asked === null) return refuse(OptionReply.ERR_INVALID, "malformed option");
  const name = decodeText(asked.name);
  if (name === null) return refuse(OptionReply.ERR_INVALID, "malformed export name");
  const queries = asked.queries.map((bytes) => decodeText(bytes) ?? "");
  if (!queries.every(isQuery)) {
    return refuse(OptionReply.ERR_INVALID, "a query is NAMESPACE:NAME");
  }
  const exported = findExport(name, exports);
  if (exported === undefined) return refuse(OptionReply.ERR_UNKNOWN, unknownExport(name));
  return { exported, queries };
}
