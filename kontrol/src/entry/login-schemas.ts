import { z } from "zod";

// What a caller may send where people sign in, and how much of it.

const username = z.string().min(1).max(253);
/** Only what a name of a host is made of: it is shown to whoever is to approve, on a terminal or a page. */
const hostname = z
  .string()
  .max(253)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "expected a host's name: letters, digits, dots, dashes and underscores");

/** Twelve characters are beyond guessing at the rate that kontrol allows; 256 are enough for any sentence. */
const newPassword = z.string().min(12, "a password has at least 12 characters").max(256);
const shownPassword = z.string().min(1).max(256);

export const passwordJoin = z.object({ username, password: shownPassword, hostname: hostname.optional() });
export const deviceJoin = z.object({ deviceCode: z.string().min(1).max(256) });
export const loginBegun = z.object({ hostname });
export const userCode = z.object({ userCode: z.string().min(1).max(64) });
export const passwordChange = z.object({
  username: username.optional(),
  current: shownPassword.optional(),
  password: newPassword.nullable(),
});
