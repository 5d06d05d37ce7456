import { relative } from "node:path";
import type { RunningMesh } from "./start.ts";

/** What is printed once the mesh is up: what it chose, where it is, the way in, and what to try next. */
export function banner(mesh: RunningMesh, { home, cwd, seconds }: { home: string; cwd: string; seconds: number }): string {
  const { chosen, gatewayUrl, kontrolUrl, madeHookToken, signIn, logPath } = mesh;
  const short = (path: string) => {
    const inside = relative(cwd, path);
    return inside === "" || inside.startsWith("..") ? path : inside;
  };
  const hook = madeHookToken === null ? "secret: GITLAB_HOOK_TOKEN" : `secret, made here: ${madeHookToken}`;
  return `
The mesh is up after ${seconds.toFixed(1)} s, and belongs to ${mesh.owner}.

  stores      ${chosen.stores}
  engine      ${chosen.engine}
  machines    ${chosen.isolation}
  state       ${short(home)} (log: ${short(logPath)})

  kontrol     ${kontrolUrl}
  dashboard   ${gatewayUrl}
  hook        ${gatewayUrl}/-/api/gitlab (${hook})

Sign in, once, until ${new Date(signIn.expiresAt).toLocaleTimeString("sv-SE")}:

  ${signIn.url}

Try, in another shell (npx kite people link makes a new link):

  npx kite ssh hello
  npx kite list --watch
  npx kite stack plan -f deploy/local/hello.yaml
  npm run example:math, and then npx kite call math square 12

Ctrl-C stops everything that was started here.`;
}
