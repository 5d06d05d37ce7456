/** What machines take over from the host's environment: where programs are and how people like their text, nothing else. */
export interface HostEnvironment {
  readonly path: string;
  readonly shell: string;
  readonly user: string;
  /** Language and time zone, where the host says them. */
  readonly locale: Readonly<Record<string, string>>;
}

/** Reads the environment; the only place in this package that does. */
export function readHostEnvironment(env: Readonly<Record<string, string | undefined>> = process.env): HostEnvironment {
  const locale = Object.entries(env).filter(([name]) => name === "LANG" || name === "TZ" || name.startsWith("LC_"));
  return {
    path: env["PATH"] || DEFAULT_PATH,
    shell: env["SHELL"] || "/bin/sh",
    user: env["USER"] || env["LOGNAME"] || "root",
    locale: Object.fromEntries(locale) as Record<string, string>,
  };
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What is needed when no program says it. */
export interface LocalSettings {
  /** `KLOUD_LOCAL_MACHINES`: the folder in which machines get theirs. */
  readonly machinesDir: string;
  /** `KLOUD_LOCAL_KLIENT`: the klient's bundle. */
  readonly klient: string;
}

/** @throws naming the setting that is missing. */
export function readLocalSettings(env: Readonly<Record<string, string | undefined>> = process.env): LocalSettings {
  const { KLOUD_LOCAL_MACHINES: machinesDir, KLOUD_LOCAL_KLIENT: klient } = env;
  if (!machinesDir) throw new Error("KLOUD_LOCAL_MACHINES is not set; it is the folder in which local machines live");
  if (!klient) throw new Error("KLOUD_LOCAL_KLIENT is not set; it is the file of the klient's bundle, which local machines run");
  return { machinesDir, klient };
}
