// Drawn on a 16 x 16 grid with strokes of the text's colour, so that they follow both colour schemes.
const SHAPES = {
  kite: "M8 1.2 13.2 7 8 14.8 2.8 7Z M8 1.2V14.8 M2.8 7H13.2",
  play: "M5 3.2 12.4 8 5 12.8Z",
  stop: "M4.2 4.2H11.8V11.8H4.2Z",
  terminal: "M1.8 2.8H14.2V13.2H1.8Z M4.4 6 6.6 8 4.4 10 M8.2 10.4H11.4",
  close: "M4 4 12 12 M12 4 4 12",
  plus: "M8 3V13 M3 8H13",
  search: "M7 2.6A4.4 4.4 0 1 1 7 11.4A4.4 4.4 0 1 1 7 2.6Z M10.2 10.2 13.6 13.6",
  down: "M3.6 6 8 10.4 12.4 6",
  up: "M3.6 10 8 5.6 12.4 10",
  copy: "M5.6 5.6H13.2V13.2H5.6Z M10.4 5.6V2.8H2.8V10.4H5.6",
  warning: "M8 2.2 14.4 13.4H1.6Z M8 6.6V9.6 M8 11.2V11.8",
} as const;

export type IconName = keyof typeof SHAPES;

/** A decorative icon: whatever it stands on must have a name of its own. */
export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

const SVG = "http://www.w3.org/2000/svg";
