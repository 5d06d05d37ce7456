import { KiteError, type KiteErrorCode } from "@kite-mesh/kite";

/** Makes a sentence with the path of what the file system answered: `could not read /etc/x: there is no such file or folder`. */
export function fileError(cause: unknown, action: string, path: string): KiteError {
  if (cause instanceof KiteError) return cause;
  const systemCode = (cause as NodeJS.ErrnoException | undefined)?.code;
  const known = systemCode === undefined ? undefined : KNOWN[systemCode];
  const [code, why] = known ?? ["internal", cause instanceof Error ? cause.message : String(cause)];
  return new KiteError(code, `could not ${action} ${path}: ${why}`, { cause, reason: "fsError", details: { path } });
}

/** Runs a step of a file operation; what it throws becomes a sentence about `path`. */
export async function onPath<T>(action: string, path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    throw fileError(cause, action, path);
  }
}

export function isMissing(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT";
}

const KNOWN: Readonly<Record<string, [KiteErrorCode, string]>> = {
  ENOENT: ["not_found", "there is no such file or folder"],
  EACCES: ["permission_denied", "the user of this machine may not"],
  EPERM: ["permission_denied", "the system does not allow it"],
  EROFS: ["permission_denied", "the file system is read-only"],
  EEXIST: ["already_exists", "it exists already"],
  ENOTEMPTY: ["failed_precondition", "the folder is not empty; ask for `recursive` to remove what is in it"],
  EISDIR: ["invalid_argument", "it is a folder"],
  ENOTDIR: ["invalid_argument", "it, or a part of its path, is not a folder"],
  EINVAL: ["invalid_argument", "the system does not take these arguments"],
  ENAMETOOLONG: ["invalid_argument", "a name in it is too long"],
  ELOOP: ["invalid_argument", "its symbolic links go round in a circle"],
  ENOSPC: ["limit_exceeded", "the disk is full"],
  EDQUOT: ["limit_exceeded", "the user's share of the disk is used up"],
  EFBIG: ["limit_exceeded", "the file would be larger than the system allows"],
  EMFILE: ["overloaded", "too many files are open; try again"],
  ENFILE: ["overloaded", "too many files are open; try again"],
  EBUSY: ["failed_precondition", "something is using it"],
};
