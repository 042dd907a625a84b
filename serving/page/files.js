// Files that were chosen or dropped, with their paths; folders are walked. Knows no model.

/** Returns the files of an input element, with their paths below the folder that was chosen. */
export function chosenFiles(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** Returns the files of a drop, those in folders too. */
export async function droppedFiles(event) {
  // Read before anything is awaited: afterwards the event has no items any more.
  const items = [...event.dataTransfer.items].map((item) => {
    return { entry: item.webkitGetAsEntry?.(), file: item.getAsFile() };
  });
  const files = [];
  for (const { entry, file } of items) {
    if (entry) files.push(...(await walk(entry)));
    else if (file) files.push({ path: file.name, file });
  }
  return files;
}

/** Saves bytes or a text as a file of the person's. */
export function saveFile(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Returns a name that every file system takes. */
export function fileName(name) {
  return name.replace(/[\\/:*?"<>|\x00-\x1f\x7f]/g, "_").replace(/^\.+/, "_");
}

/** All files under an entry of a drop. */
async function walk(entry, parent = "") {
  const path = parent ? `${parent}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path, file }];
  }

  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return files;
    for (const inner of batch) files.push(...(await walk(inner, path)));
  }
}
