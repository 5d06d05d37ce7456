// Later sheets build on earlier ones.
import "@xterm/xterm/css/xterm.css";
import "./style.css";
import "./state.css";
import "./page.css";
import "./table.css";
import "./machines.css";
import "./dock.css";
import { connectMesh } from "./kite-mesh.ts";
import { startPage } from "./page.ts";
import { browserSessions } from "./session.ts";

startPage(document.body, { sessions: browserSessions(), connect: connectMesh, memory: window.sessionStorage });
