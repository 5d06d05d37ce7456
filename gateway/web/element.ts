export type Child = Node | string | false | null | undefined;
type Listener = (event: never) => void;
type Properties = Record<string, string | number | boolean | Listener | undefined>;

/**
 * Makes an element: functions become listeners (`onclick`), `true` an empty attribute, `false` and `undefined` nothing,
 * everything else an attribute. Text is always text: nothing that a kite says of itself is read as HTML.
 */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value as unknown as EventListener);
    else setAttribute(made, name, value);
  }
  made.append(...present(children));
  return made;
}

/** Sets, changes or removes one attribute, touching the page only when it differs. */
export function setAttribute(element: Element, name: string, value: string | number | boolean | undefined): void {
  if (value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== (value === true ? "" : String(value)))
    element.setAttribute(name, value === true ? "" : String(value));
}

/** Replaces what an element contains by text, touching the page only when it differs. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function replaceChildren(element: Element, ...children: Child[]): void {
  element.replaceChildren(...present(children));
}

function present(children: readonly Child[]): (Node | string)[] {
  return children.filter((child): child is Node | string => child !== false && child !== null && child !== undefined);
}
