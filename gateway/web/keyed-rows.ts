/** One row on the page, kept as long as its item is there. */
export interface Row<Item> {
  readonly element: HTMLElement;
  update(item: Item): void;
}

export interface KeyedRowsOptions<Item> {
  parent: HTMLElement;
  keyOf: (item: Item) => string;
  create: (item: Item) => Row<Item>;
}

/**
 * Keeps the children of an element equal to a list: rows stay the same elements while their item stays, so that focus,
 * selection and animations survive every update. The first list appears at once; later rows fade in and out.
 */
export function keyedRows<Item>({ parent, keyOf, create }: KeyedRowsOptions<Item>): (items: readonly Item[], animate?: boolean) => void {
  const rows = new Map<string, Row<Item>>();
  return (items, animate = true) => {
    const wanted = new Set(items.map(keyOf));
    for (const [key, row] of rows) {
      if (wanted.has(key)) continue;
      rows.delete(key);
      if (animate) leave(row.element);
      else row.element.remove();
    }
    let previous: Element | null = null;
    for (const item of items) {
      const key = keyOf(item);
      const known = rows.get(key);
      const row = known ?? create(item);
      if (!known && animate) enter(row.element);
      rows.set(key, row);
      row.update(item);
      place(parent, row.element, previous);
      previous = row.element;
    }
  };
}

function place(parent: HTMLElement, element: Element, previous: Element | null): void {
  let next = previous === null ? parent.firstElementChild : previous.nextElementSibling;
  // Rows on their way out stay where they were until they are gone.
  while (next?.classList.contains("leaving")) next = next.nextElementSibling;
  if (next !== element) parent.insertBefore(element, next);
}

function enter(element: HTMLElement): void {
  element.classList.add("entering");
  element.addEventListener("animationend", () => element.classList.remove("entering"), { once: true });
}

function leave(element: HTMLElement): void {
  element.classList.add("leaving");
  element.setAttribute("aria-hidden", "true");
  element.inert = true;
  // `finished` is rejected when the animation is cancelled, for instance by hiding the list; the row has to go all the same.
  const animations = element.getAnimations().map((animation) => animation.finished);
  void Promise.allSettled(animations).then(() => element.remove());
}
