// Counts and numbers as they are written in sentences and tables.

/** Returns a count with its noun: "1 file", "3 files". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Returns a number with so many digits; zero has no sign. */
export function fixed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}

/** Returns the mean of numbers; of none it is NaN. */
export function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
