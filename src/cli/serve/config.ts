import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Type, type Static } from "typebox";
import { Value } from "typebox/value";
import {
  type Alias,
  type Document,
  LineCounter,
  type YAMLMap,
  isMap,
  isNode,
  isScalar,
  parseDocument,
  visit,
} from "yaml";
import { NbdRaidError } from "../../errors.ts";
import { absoluteSettings, ACCESS_SCHEMA } from "./access-options.ts";
import { LOG_LEVELS } from "./log-levels.ts";

const strict = { additionalProperties: false };
const Members = Type.Array(Type.String({ minLength: 1 }), { minItems: 1 });

const ConfigSchema = Type.Object(
  {
    members: Type.Optional(Members),
    arrays: Type.Optional(Type.Array(Type.Object({ members: Members }, strict), { minItems: 1 })),
    listen: Type.Optional(Type.Array(Type.String())),
    control: Type.Optional(Type.String({ minLength: 1 })),
    metrics: Type.Optional(Type.String()),
    readOnly: Type.Optional(Type.Boolean()),
    run: Type.Optional(Type.Boolean()),
    force: Type.Optional(Type.Boolean()),
    logLevel: Type.Optional(Type.Enum([...LOG_LEVELS])),
    ...ACCESS_SCHEMA,
  },
  strict,
);

/** A configuration file's content; paths are absolute, and the members of all arrays together. */
export type Config = Omit<Static<typeof ConfigSchema>, "arrays" | "members"> & {
  members: string[];
};

/** The error at an offset of the text. */
type Refuse = (offset: number, reason: string) => NbdRaidError;

/** Throws "config-invalid", naming file, line and key. */
export async function readConfig(path: string): Promise<Config> {
  const text = await readFile(path, "utf8").catch((cause: Error) => {
    throw new NbdRaidError("config-invalid", `cannot read ${path}: ${cause.message}`, { cause });
  });
  return parseConfig(text, path);
}

/**
 * From YAML. Paths are relative to the folder of the file at `path`. Members are grouped into
 * arrays by their superblocks, however the file groups them for its reader.
 */
export function parseConfig(text: string, path: string): Config {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, stringKeys: true });
  const refuse: Refuse = (offset, reason) =>
    new NbdRaidError("config-invalid", `${path}:${lineCounter.linePos(offset).line}: ${reason}`);

  const [syntax] = document.errors;
  if (syntax !== undefined) throw refuse(syntax.pos[0], syntax.message);
  const alias = strayAlias(document);
  if (alias !== null) throw refuse(alias.range?.[0] ?? 0, aliasOfNothing(alias));
  const content = contentOf(document, refuse);
  if (!Value.Check(ConfigSchema, content)) {
    const { keys, reason } = firstFault(content);
    throw refuse(offsetOf(document, keys), reason);
  }

  const { members = [], arrays = [], control, ...settings } = content;
  if ((members.length === 0) === (arrays.length === 0))
    throw refuse(0, `give either "members" or "arrays"`);
  const absolute = (name: string): string => resolve(dirname(path), name);
  return {
    ...absoluteSettings(settings, absolute),
    ...(control === undefined ? {} : { control: control === "none" ? control : absolute(control) }),
    members: [...members, ...arrays.flatMap((array) => array.members)].map(absolute),
  };
}

/** One whose anchor is not above it: `*.img`, most likely. */
function strayAlias(document: Document): Alias | null {
  let stray: Alias | null = null;
  visit(document, {
    Alias(_key, alias) {
      if (alias.resolve(document) !== undefined) return undefined;
      stray = alias;
      return visit.BREAK;
    },
  });
  return stray;
}

function aliasOfNothing({ source }: Alias): string {
  return `there is no anchor "${source}" above; a text that begins with "*" needs quotes`;
}

/** An alias may stand inside its own anchor, or for more than anybody has written. */
function contentOf(document: Document, refuse: Refuse): unknown {
  try {
    return document.toJS();
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    throw refuse(0, error.message);
  }
}

/** The first thing that is not as the schema says: where, as a path of keys, and what. */
function firstFault(content: unknown): { keys: string[]; reason: string } {
  const [fault] = Value.Errors(ConfigSchema, content);
  const keys = (fault?.instancePath ?? "").split("/").slice(1).map(unescapePointer);
  // The schema has no property of this name, which is a schema that nothing satisfies.
  if (fault?.keyword === "boolean") return { keys, reason: `unknown key "${keys.at(-1)}"` };
  const subject = keys.length === 0 ? "the file" : `"${keys.join(".")}"`;
  const allowed = fault?.keyword === "enum" ? `: ${fault.params.allowedValues.join(", ")}` : "";
  return { keys, reason: `${subject} ${fault?.message ?? "is not valid"}${allowed}` };
}

/** RFC 6901, section 4. */
function unescapePointer(token: string): string {
  return token.replaceAll("~1", "/").replaceAll("~0", "~");
}

/** Where in the text the last of a path of keys stands. */
function offsetOf(document: Document, keys: string[]): number {
  const parent = keys.length > 1 ? document.getIn(keys.slice(0, -1), true) : document.contents;
  const last = keys.at(-1);
  const found = isMap(parent) ? keyNode(parent, last) : document.getIn(keys, true);
  return isNode(found) ? (found.range?.[0] ?? 0) : 0;
}

function keyNode(map: YAMLMap, name: string | undefined): unknown {
  return map.items.find(({ key }) => isScalar(key) && String(key.value) === name)?.key;
}
