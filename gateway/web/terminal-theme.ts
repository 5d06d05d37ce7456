import type { ITheme } from "@xterm/xterm";

/** The terminal's colours in the page's scheme; both palettes keep a contrast of at least 4.5 on their background. */
export function terminalTheme(dark: boolean): ITheme {
  return dark ? DARK : LIGHT;
}

const DARK: ITheme = {
  background: "#0c0f13",
  foreground: "#d7dde4",
  cursor: "#8ab4ff",
  cursorAccent: "#0c0f13",
  selectionBackground: "#2b4a7a",
  black: "#3b434d",
  red: "#ff7b72",
  green: "#5fc97e",
  yellow: "#e0b354",
  blue: "#79acff",
  magenta: "#d2a0ff",
  cyan: "#56c8d8",
  white: "#c4ccd5",
  brightBlack: "#7f8a97",
  brightRed: "#ffa198",
  brightGreen: "#86e09f",
  brightYellow: "#f2cc7a",
  brightBlue: "#a5c8ff",
  brightMagenta: "#e2c1ff",
  brightCyan: "#86e1ee",
  brightWhite: "#f3f6f9",
};

const LIGHT: ITheme = {
  background: "#ffffff",
  foreground: "#1d232b",
  cursor: "#2459c9",
  cursorAccent: "#ffffff",
  selectionBackground: "#bcd3ff",
  black: "#1d232b",
  red: "#b3261e",
  green: "#1a7036",
  yellow: "#835a00",
  blue: "#2459c9",
  magenta: "#7d35b8",
  cyan: "#0c6b7a",
  white: "#5d6773",
  brightBlack: "#66707c",
  brightRed: "#c8372d",
  brightGreen: "#217a3c",
  brightYellow: "#8a6100",
  brightBlue: "#3268d6",
  brightMagenta: "#8d47c7",
  brightCyan: "#13727f",
  brightWhite: "#3c4550",
};
