/** Prometheus' text format, read by hand: nothing of the library that writes it. */
export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: { readonly labels: Record<string, string>; readonly value: number }[];
}

const SAMPLE = /^([a-zA-Z_][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)",?/y;

/** Every family of a scrape, in its order. Throws for a line that is none of the format's. */
export function parseExposition(text: string): Family[] {
  const families: Family[] = [];
  for (const line of text.split("\n")) {
    const [, keyword, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    const last = families.at(-1);
    if (line === "") continue;
    if (keyword === "HELP") families.push({ name, type: "", help: rest, samples: [] });
    else if (keyword === "TYPE" && last?.name === name)
      families[families.length - 1] = { ...last, type: rest };
    else last?.samples.push(parseSample(line));
  }
  return families;
}

function parseSample(line: string): Family["samples"][number] {
  const [, , labels = "", value] = SAMPLE.exec(line) ?? [];
  if (value === undefined) throw new Error(`no sample: ${line}`);
  return { labels: parseLabels(labels), value: Number(value) };
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  for (let at = 0; at < text.length; at = LABEL.lastIndex) {
    const [, name, value] = LABEL.exec(text) ?? [];
    if (name === undefined || value === undefined) throw new Error(`no labels: ${text}`);
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) =>
      escaped === "n" ? "\n" : escaped,
    );
  }
  return labels;
}

/** The value of the sample with these labels and no others; null if there is none. */
export function valueOf(
  families: readonly Family[],
  name: string,
  labels: Record<string, string>,
): number | null {
  const key = (of: Record<string, string>): string => JSON.stringify(Object.entries(of).sort());
  const samples = families.find((family) => family.name === name)?.samples ?? [];
  return samples.find((sample) => key(sample.labels) === key(labels))?.value ?? null;
}
