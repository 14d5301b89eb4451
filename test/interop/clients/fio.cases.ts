/**
 * fio's nbd engine, by libnbd. It opens a URI without leave to read the files that the URI names,
 * so certificates come from the folder that libnbd looks into by itself.
 */
import { spawnSync } from "node:child_process";
import { run } from "../run.ts";
import type { ClientCase, ClientCases } from "./cases.ts";
import type { Place } from "./places.ts";

/** Of all jobs of a run. */
const GLOBAL = ["--ioengine=nbd", "--size=16M", "--iodepth=16", "--randseed=1"];
const VERIFY = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];

/** libnbd gives a superuser /etc/pki instead of the home; in a namespace of users it is none. */
const NOBODY = ["unshare", "--user", "--map-user=1000"] as const;
const isSuperuser = process.getuid?.() === 0;
const [unshare, ...namespace] = NOBODY;
const hasNobody = isSuperuser && spawnSync(unshare, [...namespace, "true"]).status === 0;

async function fio(place: Place, ...args: string[]): Promise<void> {
  const asNobody = hasNobody && place.security === "TLS x509";
  const [program, ...before] = asNobody ? ([...NOBODY, "fio"] as const) : (["fio"] as const);
  const uri = `--uri=${place.security === "TLS PSK" ? place.uri : place.bareUri}`;
  const options = { cwd: place.folder, env: { HOME: place.secrets } };
  await run(program, [...before, ...GLOBAL, uri, ...args], options);
}

const cannot: ClientCase["cannot"] = ({ security }) => {
  if (security === "TLS PSK") {
    const because = "fio may not read a file that its URI names, and keys have no other place";
    return { because, says: /local file access \(tls-psk-file\) is not allowed/ };
  }
  if (security === "plain" || !isSuperuser || hasNobody) return null;
  const because = "a superuser's certificates are in /etc/pki, and no other user can be had here";
  return { because, says: /TLS fatal alert/ };
};

export const FIO: ClientCases = {
  programs: ["fio", "unshare"],
  cases: [
    {
      title: "fio verifies what it wrote, 16 deep and in mixed sizes",
      run: async (place) => {
        const mixed = ["--bsrange=512-128k", "--blockalign=512", "--fsync=32"];
        await fio(place, "--name=mixed", "--rw=randwrite", ...mixed, ...VERIFY);
      },
      cannot,
    },
    {
      title: "fio verifies what it wrote over trims",
      run: async (place) => {
        await fio(
          place,
          ...["--bs=64k", "--name=both", "--rw=randtrimwrite"],
          ...["--name=trims", "--stonewall", "--rw=trim"],
          ...["--name=writes", "--stonewall", "--rw=write", ...VERIFY],
        );
      },
      cannot,
    },
  ],
};
