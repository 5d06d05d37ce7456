import { readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { cruise, format, type ICruiseResult } from "dependency-cruiser";
import extractConfig from "dependency-cruiser/config-utl/extract-depcruise-config";
import extractTypeScriptConfig from "dependency-cruiser/config-utl/extract-ts-config";

const root = fileURLToPath(new URL("../..", import.meta.url));
const FOLDERS = ["kite", "kontrol", "klient", "kloud", "gateway", "deploy", "test"];

process.chdir(root);
const result = await cruiseFolders();
const { output } = await format(result, { outputType: "err-long" });
console.log(String(output).trim());

const unseen = sourceFiles().filter((file) => !result.modules.some((module) => module.source === file));
// A tool that quietly parses nothing passes every rule; one that skips a file lets it import what it likes.
if (unseen.length > 0)
  console.error(`expected every source file to be checked, but ${unseen.length} were not: ${unseen.slice(0, 5).join(", ")}`);
process.exitCode = result.summary.error > 0 || unseen.length > 0 ? 1 : 0;

async function cruiseFolders(): Promise<ICruiseResult> {
  const { options, ...ruleSet } = await extractConfig(path.join(root, ".dependency-cruiser.js"));
  const { enhancedResolveOptions, ...others } = options ?? {};
  const cruised = await cruise(FOLDERS, { ...others, ruleSet, validate: true }, enhancedResolveOptions, {
    tsConfig: extractTypeScriptConfig(path.join(root, "tsconfig.json")),
  });
  return cruised.output as ICruiseResult;
}

function sourceFiles(): string[] {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).map((file) => path.join(folder, file)),
  );
  return files.filter((file) => /[.]tsx?$/.test(file) && !/(^|\/)(node_modules|dist|templates|testdata)\//.test(file));
}
