// Elements of the page: found by their id, and made. Knows no model.

/** Returns the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Returns a new element with attributes and children; texts are never read as HTML. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Returns a button that does something. */
export function makeButton(text, onClick) {
  const button = make("button", { type: "button" }, text);
  button.addEventListener("click", onClick);
  return button;
}
