// Lines over time, drawn by uPlot.
import uPlot from "uplot";
import { useEffect, useRef } from "preact/hooks";
import { holes, marked } from "./holes.js";
import { serverNow } from "./live.js";
import { html } from "./parts.js";

const STEPS = Array.from({ length: 60 }, (_, power) => 2 ** power);

/** Hours and minutes, or days where that is too fine. */
function clock(ticks) {
  const days = ticks.length > 1 && ticks.at(-1) - ticks[0] > 36 * 3600;
  return ticks.map((at) => {
    const date = new Date(at * 1000);
    return days
      ? date.toLocaleDateString([], { month: "short", day: "numeric" })
      : date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  });
}

const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Several [seconds, values], each of a `period` of seconds, on one axis of time; holes where a line has no value. */
export function align(lines, period = 60) {
  const times = [...new Set(lines.flatMap(([at]) => at))].sort((a, b) => a - b);
  const places = new Map(times.map((at, place) => [at, place]));
  return holes([
    times,
    ...lines.map(([at, values]) => {
      const aligned = new Array(times.length).fill(null);
      at.forEach((each, index) => (aligned[places.get(each)] = values[index]));
      return aligned;
    }),
  ], period * 1.5);
}

/**
 * `data` as `align` gives it; `labels` and `format` are for its lines. `hours` until now are shown, or what there is;
 * `binary` puts the axis in steps of 1024; `empty` is said where there is no point at all.
 */
export function Chart({ title, data, labels, format, hours, binary = false, note, empty = "No data in this span yet." }) {
  const place = useRef();
  const plot = useRef();
  const latest = useRef();
  latest.current = format;
  const known = labels.join("|");

  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { show: false } };
      plot.current = new uPlot(
        {
          width: place.current.clientWidth,
          height: 180,
          cursor: { sync: { key: "lambay" }, points: { size: 6 } },
          legend: { live: true },
          scales: { x: hours ? { range: () => [serverNow() / 1000 - hours * 3600, serverNow() / 1000] } : {}, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.08 : 1] } },
          axes: [{ ...axis, values: (_, ticks) => clock(ticks) }, { ...axis, size: 84, ...(binary && { incrs: STEPS }), values: (_, ticks) => ticks.map((tick) => latest.current(tick)) }],
          series: [
            { value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString([], { hour12: false })) },
            ...labels.map((label, index) => ({
              label,
              stroke: colour(COLOURS[index % COLOURS.length]),
              width: 1.75,
              spanGaps: false,
              points: { show: true, filter: (self, at) => marked(self.data[at]), size: 4 },
              value: (_, value) => (value == null ? "–" : latest.current(value)),
            })),
          ],
        },
        data,
        place.current,
      );
    };
    draw();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: place.current.clientWidth, height: 180 }));
    resized.observe(place.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    addEventListener("lambay:theme", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      removeEventListener("lambay:theme", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [known, hours]);

  useEffect(() => plot.current?.setData(data), [data]);

  const blank = data.slice(1).every((line) => line.every((value) => value == null));
  return html`
    <figure class="chart">
      <figcaption>${title}${note && html` <small>${note}</small>`}</figcaption>
      <div class="plot ${blank ? "blank" : ""}" ref=${place} role="img" aria-label=${title}></div>
      ${blank && html`<p class="nothing over">${empty}</p>`}
    </figure>`;
}
