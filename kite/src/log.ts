/** Where a kite says what happened. pino's loggers have this shape. */
export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Says nothing: a library that was given no logger does not write to anybody's terminal. */
export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
