// The list of files: what each of them is taken for, and a choice where that is wrong or unclear.

import { NOT_USED, allUses, describeUse } from "./assignment.js";
import { byId, make } from "./elements.js";
import { count } from "./words.js";

/**
 * Shows files, those of one folder that are the same as one entry.
 *
 * `onChoice` is called with the files of an entry and their new use.
 */
export function showFiles(files, notRead, model, onChoice) {
  const focused = document.activeElement?.dataset.group;
  const place = ([, [{ use }]]) => [null, ...allUses(model), NOT_USED].indexOf(use);
  const groups = [...groupFiles(files)].sort((one, other) => place(one) - place(other));
  const items = groups.map(([key, group]) => groupItem(key, group, model, onChoice));
  byId("groups").replaceChildren(...items);
  byId("given").hidden = !files.length && !notRead.length;
  for (const select of byId("groups").querySelectorAll("select")) {
    if (select.dataset.group === focused) select.focus();
  }

  const named = notRead.slice(0, 3).map(({ path, why }) => `${path} (${why})`);
  const more = notRead.length > 3 ? ` and ${count(notRead.length - 3, "other file")}` : "";
  byId("not-read").textContent = `Not read: ${named.join(", ")}${more}.`;
  byId("not-read").hidden = !notRead.length;
}

/** Offers to take sessions as one, if it would have nothing twice. */
export function offerToJoin(sessions) {
  const uses = sessions.flatMap(({ features, labels }) => [...features, ...labels]);
  const isOnce = new Set(uses.map(({ use }) => use)).size === uses.length;
  byId("one-session").hidden = sessions.length < 2 || !isOnce;
  const number = count(sessions.length, "session");
  byId("one-session-text").textContent =
    `By their names these files belong to ${number}, but no feature set is there twice.`;
}

/** Files by folder and by what they were taken for; two of one session stand alone. */
function groupFiles(files) {
  const groups = new Map();
  const add = (key, file) => groups.set(key, [...(groups.get(key) ?? []), file]);
  for (const file of files) {
    const isSame = (other) => other.group === file.group && other.session === file.session;
    const isTwice = files.some((other) => other !== file && isSame(other));
    add(isTwice ? `${file.group}\n${file.number}` : file.group, file);
  }
  return groups;
}

function groupItem(key, group, model, onChoice) {
  const [{ use, why, columns }] = group;
  const size = columns.length ? `, ${count(columns.length, "column")}` : "";
  const name = groupName(group) + size;
  const select = make("select", { "data-group": key, "aria-label": `What is ${name}?` });
  if (use === null) select.append(new Option("Choose what it is", ""));
  select.append(...allUses(model).map((each) => new Option(describeUse(each), each)));
  select.append(new Option(NOT_USED, NOT_USED));
  select.value = use ?? "";
  select.addEventListener("change", () => onChoice(group, select.value));

  const item = make("li", {}, select, make("span", {}, name));
  if (use === null) {
    item.className = "open";
    item.append(make("span", { class: "why" }, `Not assigned. ${why}`));
  }
  return item;
}

/** The last parts of a file's path, or the folder of several. */
function groupName(group) {
  const [{ path }] = group;
  if (group.length === 1) return path.split("/").slice(-3).join("/");

  const folder = path.split("/").slice(-3, -1).join("/");
  if (folder) return `${count(group.length, "file")} in ${folder}`;
  const names = group.map(({ name }) => name).sort();
  const some = names.slice(0, 3).join(", ") + (names.length > 3 ? ", ..." : "");
  return `${count(group.length, "file")} (${some})`;
}
