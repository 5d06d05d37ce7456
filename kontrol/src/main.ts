import { runProgram } from "./command/program.ts";

// kontrol as a program, by bin/kontrol.js or by itself.
await runProgram(process.argv);
