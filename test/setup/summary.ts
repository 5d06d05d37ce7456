import type { Reporter, TestCase, TestModule, TestSuite } from "vitest/node";
import { findService, SERVICES } from "../services.ts";

/** Says at the end of a run which real servers this machine has, and by name what was skipped for want of one. */
export class ServicesReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = modules.flatMap((module) => skippedIn(module, module.relativeModuleId));
    const services = SERVICES.map((service) => `${service} ${findService(service) ?? "missing"}`);
    console.log(`\n Services  postgresql from npm, ${services.join(", ")}`);
    for (const title of skipped) console.log(`  Skipped  ${title}`);
  }
}

/** The topmost skipped suites and tests: a skipped suite speaks for all that is in it. */
function skippedIn(parent: TestModule | TestSuite, title: string): string[] {
  return [...parent.children].flatMap((child: TestSuite | TestCase) => {
    const name = `${title} > ${child.name}`;
    const isSkipped = child.type === "test" ? child.result().state === "skipped" : child.options.mode === "skip";
    if (isSkipped) return [name];
    return child.type === "suite" ? skippedIn(child, name) : [];
  });
}
