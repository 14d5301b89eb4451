/** Which programs ask for structured replies, and which of them can be told not to. */

export interface RepliesCase {
  readonly program: string;
  /** What there is to say of a switch. */
  readonly note: string;
  readonly structured: boolean;
  /** The program's arguments, given the URI of a plain Unix socket; "URI" is replaced in them. */
  readonly args: readonly string[];
}

const libnbd = "it has no option against libnbd's default";
const qemu = "qemu's client has no option against it";
const read = "assert h.pread(4, 0) is not None";
const off = "h.set_request_structured_replies(False)";
const fioJob = ["--name=job", "--ioengine=nbd", "--rw=read", "--size=1M", "--uri=URI"];

const always = (program: string, note: string, ...args: string[]): RepliesCase => ({
  ...{ program, note, structured: true, args },
});

export const REPLIES: readonly RepliesCase[] = [
  always("nbdinfo", libnbd, "--size", "URI"),
  always("nbdcopy", libnbd, "URI", "null:"),
  always("nbdsh", "it can be told not to", "-c", `h.connect_uri("URI"); ${read}`),
  {
    ...{ program: "nbdsh", note: "it was told not to", structured: false },
    args: ["-c", `${off}; h.connect_uri("URI"); ${read}`],
  },
  always("qemu-img", qemu, "info", "-f", "raw", "URI"),
  always("qemu-io", qemu, "-f", "raw", "-c", "read 0 64k", "URI"),
  always("fio", libnbd, ...fioJob),
  always("nbdkit", libnbd, "--unix", "-", "nbd", "uri=URI", "--run", 'nbdinfo --size "$uri"'),
];
