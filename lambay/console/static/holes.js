// Where nothing was measured no line is drawn.

/** `[times, ...lines]` with a hole wherever two times lie further apart than `longest` seconds. */
export function holes([times, ...lines], longest) {
  const found = [[], ...lines.map(() => [])];
  times.forEach((at, index) => {
    if (index && at - times[index - 1] > longest) {
      found[0].push((at + times[index - 1]) / 2);
      lines.forEach((_, line) => found[line + 1].push(null));
    }
    found[0].push(at);
    lines.forEach((line, place) => found[place + 1].push(line[index]));
  });
  return found;
}

/** The values to mark with a point: all of a few, of many those that no line leads to. */
export function marked(values) {
  const there = values.flatMap((value, index) => (value == null ? [] : [index]));
  if (there.length < 40) return there;
  return there.filter((index) => values[index - 1] == null && values[index + 1] == null);
}
