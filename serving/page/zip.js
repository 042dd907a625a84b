// A zip archive of texts, stored as they are: no compression, so no library.

const UTF8_NAMES = 1 << 11;
const VERSION = 20;
/** 1 January 1980, the first day that the format knows: the same files are the same bytes. */
const DATE = 0x21;
const MAX_ENTRIES = 0xffff;

/** Returns the bytes of an archive of path -> text. */
export function zipBytes(files) {
  const entries = Object.entries(files);
  if (entries.length > MAX_ENTRIES) throw new Error("Too many files for one zip archive.");

  const encoder = new TextEncoder();
  const pieces = [];
  const directory = [];
  let offset = 0;
  for (const [path, text] of entries) {
    const name = encoder.encode(path);
    const content = encoder.encode(text);
    const common = commonFields(content, name.length);
    const local = concatenated([fields([4, 0x04034b50]), common, name, content]);
    const ofFile = [
      [2, 0],
      [2, 0],
      [2, 0],
      [4, 0],
      [4, offset],
    ];
    directory.push(fields([4, 0x02014b50], [2, VERSION]), common, fields(...ofFile), name);
    pieces.push(local);
    offset += local.length;
  }

  const central = concatenated(directory);
  const counts = [
    [2, entries.length],
    [2, entries.length],
  ];
  const end = [
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    ...counts,
    [4, central.length],
    [4, offset],
    [2, 0],
  ];
  return concatenated([...pieces, central, fields(...end)]);
}

/** What a file's own header and the directory both say of it. */
function commonFields(content, nameLength) {
  const sizes = [
    [4, crc32(content)],
    [4, content.length],
    [4, content.length],
  ];
  const times = [
    [2, 0],
    [2, DATE],
  ];
  return fields([2, VERSION], [2, UTF8_NAMES], [2, 0], ...times, ...sizes, [2, nameLength], [2, 0]);
}

/** Numbers of so many bytes each, the lowest first. */
function fields(...sizesAndValues) {
  const bytes = sizesAndValues.flatMap(([size, value]) =>
    Array.from({ length: size }, (_, place) => (value >>> (8 * place)) & 0xff),
  );
  return Uint8Array.from(bytes);
}

function concatenated(arrays) {
  const bytes = new Uint8Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let place = 0;
  for (const array of arrays) {
    bytes.set(array, place);
    place += array.length;
  }
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC_TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
