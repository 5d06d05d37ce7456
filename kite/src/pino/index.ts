export { type LoggerOptions, openLogger } from "./logger.ts";
