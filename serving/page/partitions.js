// The partition of each session, where the metadata of a corpus is among the files.

const FILE = /(^|\/)metadata\/partition\.csv$/i;
const NAMES = ["train", "devel", "test"];

/** Returns session -> partition from a corpus's own file; empty where that is not plain. */
export async function readPartitions(files) {
  const found = files.find(({ path }) => FILE.test(path));
  if (!found) return {};

  const lines = (await found.file.text()).replace(/^\ufeff/, "").split(/\r\n|\n|\r/);
  const cells = lines.slice(1).map((line) => line.split(/[,;\t]/).map((cell) => cell.trim()));
  const rows = cells.filter(([, name]) => NAMES.includes(name?.toLowerCase()));
  return Object.fromEntries(rows.map(([session, name]) => [session, name.toLowerCase()]));
}
