/** A guest that stays up, and runs commands between the things that the host does. */
import { Guest, type GuestOptions } from "./guest.ts";

/** The guest asks for commands; what each wrote comes back as one word. */
const LOOP = `
answer=$(mktemp)
while command=$(host next) && [ "$command" != END ]; do
  set +e
  (set -e; eval "$command") >"$answer" 2>&1
  status=$?
  set -e
  host result "$status" "x$(base64 -w0 "$answer")"
done
`;

/** What goes to and fro while the guest is up: one command at a time. */
class Commands {
  #give: ((text: string) => void) | null = null;
  #settle: ((status: number, output: string) => void) | null = null;
  #waiting: string | null = null;

  /** The guest's side: resolves with the next command. */
  readonly next = (): Promise<string> =>
    new Promise((give) => {
      if (this.#waiting === null) this.#give = give;
      else give(this.#waiting);
      this.#waiting = null;
    });

  readonly result = (status = "", output = ""): Promise<void> => {
    this.#settle?.(Number(status), Buffer.from(output.slice(1), "base64").toString());
    return Promise.resolve();
  };

  send(text: string): void {
    if (this.#give === null) this.#waiting = text;
    else this.#give(text);
    this.#give = null;
  }

  run(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#settle = (status, output) => {
        if (status === 0) resolve(output);
        else reject(new Error(`the guest's command exited with ${status}:\n${text}\n${output}`));
      };
      this.send(text);
    });
  }
}

export class GuestShell {
  readonly #guest: Guest;
  readonly #commands: Commands;

  private constructor(guest: Guest, commands: Commands) {
    this.#guest = guest;
    this.#commands = commands;
  }

  /** What the options' `host` answers is there as well, for what runs in the background. */
  static async boot(options: GuestOptions): Promise<GuestShell> {
    const commands = new Commands();
    const host = { ...options.host, next: commands.next, result: commands.result };
    const guest = await Guest.boot(LOOP, { timeoutSeconds: 3600, ...options, host });
    return new GuestShell(guest, commands);
  }

  /** Runs a piece of a script, in a shell of its own that has prelude.sh; returns what it wrote. */
  async run(text: string): Promise<string> {
    const ended = this.#guest.ended.then(({ status, output }) => {
      throw new Error(`the guest ended with ${status} at:\n${text}\n${output}`);
    });
    return Promise.race([this.#commands.run(text), ended]);
  }

  /** Runs it as far as the power lasts: it must cut it itself, with `powercut`. */
  async runToPowerCut(text: string): Promise<void> {
    const ran = this.#commands.run(text).then((output) => {
      throw new Error(`the power was to go at the end of:\n${text}\n${output}`);
    });
    await Promise.race([ran, this.#guest.ended]);
  }

  /** Ends the guest if it has not ended. */
  async end(): Promise<void> {
    this.#commands.send("END");
    await this.#guest.ended;
  }

  /** Everything stops where it is. */
  cutPower(): Promise<void> {
    return this.#guest.cutPower();
  }
}
