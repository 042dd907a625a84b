// The concordance correlation coefficient, as `pipeline/metrics/ccc.py` defines it.

/** Returns the CCC of pairs [label, prediction]; NaN where both are constant, or without pairs. */
export function ccc(pairs) {
  const n = pairs.length;
  const centre = pairs.reduce((sum, [label]) => sum + label, 0) / n;
  const sums = { a: 0, b: 0, aa: 0, bb: 0, ab: 0 };
  for (const [label, prediction] of pairs) {
    const a = label - centre;
    const b = prediction - centre;
    sums.a += a;
    sums.b += b;
    sums.aa += a * a;
    sums.bb += b * b;
    sums.ab += a * b;
  }

  const { a, b, aa, bb, ab } = sums;
  const spread = aa - (a * a) / n + (bb - (b * b) / n);
  // Below that a spread is rounding, no variation.
  const isDefined = n > 0 && spread > 1e-13 * (aa + bb);
  return isDefined ? (2 * (ab - (a * b) / n)) / (spread + (a - b) ** 2 / n) : NaN;
}

/** Returns the pairs [label, prediction] of a label's rows that have both. */
export function labelledPairs({ values, frames }, prediction) {
  return values
    .map((value, row) => [value, frames[row] < 0 ? null : prediction[frames[row]]])
    .filter(([value, predicted]) => value !== null && predicted !== null);
}
