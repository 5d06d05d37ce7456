export { type BreakerOptions, breaker, type CircuitChange } from "./breaker.ts";
