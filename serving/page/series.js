// Series over time as a chart draws them: where frames are missing there is a gap, never a bridge.

const GAP_PERIODS = 1.5;

/** Returns the indices of frames in runs: a run ends where a value, or a frame, is missing. */
export function runsOf(times, values) {
  const longest = GAP_PERIODS * medianStep(times);
  const runs = [];
  let isOpen = false;
  values.forEach((value, frame) => {
    const isAfterGap = frame > 0 && times[frame] - times[frame - 1] > longest;
    if (value === null || isAfterGap) isOpen = false;
    if (value === null) return;

    if (isOpen) runs[runs.length - 1].push(frame);
    else runs.push([frame]);
    isOpen = true;
  });
  return runs;
}

/** Returns `x`, `y` and more of a line with gaps; a frame alone between two gaps is a dot. */
export function line(times, values, extra = null) {
  const runs = runsOf(times, values);
  const frames = runs.flatMap((run, index) => (index ? [null, ...run] : run));
  const alone = new Set(runs.filter(({ length }) => length === 1).flat());
  const pick = (series) => frames.map((frame) => (frame === null ? null : series[frame]));
  return {
    x: pick(times),
    y: pick(values),
    ...(extra ? { customdata: pick(extra) } : {}),
    mode: alone.size ? "lines+markers" : "lines",
    marker: { size: frames.map((frame) => (alone.has(frame) ? 5 : 0)) },
    connectgaps: false,
  };
}

/** Returns `x` and `y` of the areas between two series, one for each run of frames. */
export function ribbon(times, low, high) {
  const half = medianStep(times) / 2;
  const areas = runsOf(times, high).map((run) => {
    // A frame alone between two gaps is as wide as a frame.
    const [first] = run;
    const ends = [times[first] - half, times[first] + half];
    const seconds = run.length > 1 ? run.map((frame) => times[frame]) : ends;
    const frames = run.length > 1 ? run : [first, first];
    const top = frames.map((frame) => high[frame]);
    const bottom = frames.map((frame) => low[frame]);
    return { x: [...seconds, ...seconds.reverse()], y: [...top, ...bottom.reverse()] };
  });
  const joined = (axis) =>
    areas.flatMap((area, index) => (index ? [null, ...area[axis]] : area[axis]));
  return { x: joined("x"), y: joined("y") };
}

/** Returns the frames at which no feature set has a row: what is predicted there is no one's. */
export function emptyFrames({ timestamps_ms: times, difficulty }) {
  const series = Object.values(difficulty).map(({ percentile }) => percentile);
  return times
    .map((_, frame) => frame)
    .filter((frame) => series.length && series.every((values) => values[frame] === null));
}

function medianStep(times) {
  const steps = times.slice(1).map((time, index) => time - times[index]);
  return steps.sort((one, other) => one - other)[Math.floor(steps.length / 2)] ?? 0;
}
