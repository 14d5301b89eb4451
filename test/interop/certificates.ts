import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.ts";

/** A certificate authority in a folder, laid out as nbdkit, qemu and libnbd look for its files. */
export interface Authority {
  /** Has ca-cert.pem, and {server,client}-{cert,key}.pem. */
  readonly folder: string;
  /** Another folder whose server and client have certificates of this authority. */
  issue(name: string, options?: IssueOptions): Promise<string>;
}

export interface IssueOptions {
  /** Days from now until they end; below zero: they have ended. */
  readonly days?: number;
}

const EXTENSIONS = {
  server: "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
  client: "extendedKeyUsage=clientAuth\n",
};
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Made anew in `base`, by the openssl program. */
export async function makeAuthority(base: string, name: string): Promise<Authority> {
  const openssl = (...args: string[]) => run("openssl", args);
  const root = join(base, name);
  await mkdir(root, { recursive: true });
  const ca = { cert: join(root, "ca-cert.pem"), key: join(root, "ca-key.pem") };
  await openssl(
    ...["req", "-x509", ...NEW_KEY, "-days", "2", "-subj", `/CN=${name} authority`],
    ...["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ...["-keyout", ca.key, "-out", ca.cert],
  );

  const issueTo = async (folder: string, role: "server" | "client", days: number) => {
    const file = (what: string) => join(folder, `${role}-${what}`);
    const extensions = `basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n`;
    await writeFile(file("extensions"), extensions + EXTENSIONS[role]);
    await openssl(
      ...["req", "-new", ...NEW_KEY, "-subj", `/CN=${role} of ${name}`],
      ...["-keyout", file("key.pem"), "-out", file("request")],
    );
    await openssl(
      ...["x509", "-req", "-in", file("request"), "-CA", ca.cert, "-CAkey", ca.key],
      ...["-CAcreateserial", "-days", String(days), "-extfile", file("extensions")],
      ...["-out", file("cert.pem")],
    );
  };
  const issue = async (sub: string, { days = 1 }: IssueOptions = {}): Promise<string> => {
    const folder = join(base, sub);
    await mkdir(folder, { recursive: true });
    if (folder !== root) await copyFile(ca.cert, join(folder, "ca-cert.pem"));
    await issueTo(folder, "server", days);
    await issueTo(folder, "client", days);
    return folder;
  };
  return { folder: await issue(name), issue };
}
