/** Packages of this repository are resolved to their sources: the condition that `node --conditions=mesh-source` would set. */
export function resolve(specifier, context, next) {
  return next(specifier, { ...context, conditions: ["mesh-source", ...context.conditions] });
}
