// The model card and tables as elements: the little Markdown that a card is written in.

import { make } from "./elements.js";

const INLINE = /(&lt;|\\[!-/:-@[-`{-~]|\*\*[^*]+\*\*|`[^`]+`)/;
const CELL_END = /(?<!\\)\|/;
const TABLE_RULE = /^\|[\s|:-]+$/;

/** Returns the elements of a card. */
export function cardElements(text) {
  return splitBlocks(text).map(({ kind, lines }) => ELEMENTS[kind](lines));
}

/** Returns the rows of a table; the first one holds its headings. */
export function tableRows([headings, ...rows]) {
  return [tableRow(headings, "th"), ...rows.map((cells) => tableRow(cells, "td"))];
}

/** Lines of one kind that follow each other; a heading stands alone. */
function splitBlocks(text) {
  const blocks = [];
  let isOpen = false;

  for (const line of text.split("\n")) {
    if (line.trim() === "") {
      isOpen = false;
      continue;
    }
    const kind = blockKind(line);
    const last = blocks[blocks.length - 1];
    if (isOpen && last.kind === kind && kind !== "heading") last.lines.push(line);
    else blocks.push({ kind, lines: [line] });
    isOpen = true;
  }
  return blocks;
}

function blockKind(line) {
  if (line.startsWith("|")) return "table";
  if (line.startsWith("- ")) return "list";
  return line.startsWith("#") ? "heading" : "paragraph";
}

const ELEMENTS = {
  heading: ([line]) => {
    const level = line.match(/^#+/)[0].length;
    return inline(document.createElement(level > 2 ? "h4" : "h3"), line.replace(/^#+\s*/, ""));
  },
  paragraph: (lines) => inline(document.createElement("p"), lines.join(" ")),
  list: (lines) => {
    const list = document.createElement("ul");
    list.append(...lines.map((line) => inline(document.createElement("li"), line.slice(2))));
    return list;
  },
  table: (lines) => {
    const rows = lines.filter((line) => !TABLE_RULE.test(line)).map(splitCells);
    const table = make("table", {}, ...tableRows(rows));
    // Wider than a phone: it scrolls, also by keyboard.
    const attributes = { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" };
    return make("div", attributes, table);
  },
};

function splitCells(line) {
  return line
    .split(CELL_END)
    .slice(1, -1)
    .map((cell) => cell.trim());
}

function tableRow(cells, kind) {
  const row = document.createElement("tr");
  row.append(...cells.map((cell) => inline(document.createElement(kind), cell)));
  if (kind === "th") for (const heading of row.cells) heading.setAttribute("scope", "col");
  return row;
}

/** Appends text with **strong** and `code` parts, and without its backslashes; never as HTML. */
function inline(element, text) {
  for (const part of text.split(INLINE)) {
    const kind = part.startsWith("**") ? "strong" : part.startsWith("`") ? "code" : null;
    if (kind === null) {
      element.append(part === "&lt;" ? "<" : part.startsWith("\\") ? part.slice(1) : part);
      continue;
    }
    const marked = document.createElement(kind);
    const width = kind === "strong" ? 2 : 1;
    marked.textContent = part.slice(width, -width);
    element.append(marked);
  }
  return element;
}
