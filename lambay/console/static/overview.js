import { align, Chart } from "./chart.js";
import { bytes, count, duration, milliseconds, rate } from "./format.js";
import { series, useLive } from "./live.js";
import { cloudwatch } from "./aws.js";
import { Badge, Figure, html, Loading, Nothing, Panel, Table, useLoaded } from "./parts.js";

const sum = (list, value) => list.reduce((total, each) => total + (value(each) ?? 0), 0);

export function Overview() {
  const { now, views, error } = useLive();
  const [alarms] = useLoaded(cloudwatch.alarms, [], 15);
  if (!now) return error ? null : html`<${Loading} />`;
  const ringing = alarms ? [...alarms.metric, ...alarms.composite].filter((each) => each.StateValue === "ALARM") : [];
  const total = (list, value) => (view) => sum(view[list], value);
  const busiest = [...now.functions].sort((a, b) => b.invocations_per_s - a.invocations_per_s || b.invocations - a.invocations).slice(0, 8);
  const errors = sum(now.functions, (each) => each.errors_per_s);
  return html`
    <h1>Overview</h1>
    <dl class="figures">
      <${Figure} label="Invocations" value=${`${count(sum(now.functions, (each) => each.invocations_per_s))}/s`} />
      <${Figure} label="Errors" value=${`${count(errors)}/s`} kind=${errors > 0 ? "bad" : ""} />
      <${Figure} label="Environments" value=${count(now.environments.length)} note=${`${count(sum(now.functions, (each) => each.busy))} busy`} />
      <${Figure} label="Reads" value=${rate(sum(now.file_systems, (each) => each.read_bytes_per_s))} />
      <${Figure} label="Writes" value=${rate(sum(now.file_systems, (each) => each.write_bytes_per_s))} />
      <${Figure} label="Stored" value=${bytes(sum(now.file_systems, (each) => each.bytes))} note=${now.file_systems.length === 1 ? "1 file system" : `${now.file_systems.length} file systems`} />
      <${Figure} label="Alarms" value=${count(ringing.length)} kind=${ringing.length ? "bad" : ""} note=${alarms ? `of ${alarms.metric.length + alarms.composite.length}` : ""} />
    </dl>
    ${ringing.length > 0 && html`
      <${Panel} title="In alarm">
        <ul class="plain-list">${ringing.map((each) => html`
          <li><${Badge} kind="bad">alarm<//> <a href="#/alarms">${each.AlarmName}</a> <small>${each.StateReason}</small></li>`)}</ul>
      <//>`}
    <div class="charts">
      <${Chart} hours=${0.25} title="Invocations" labels=${["invocations", "errors", "throttles"]} format=${(value) => `${count(value)}/s`}
        data=${series(views, total("functions", (each) => each.invocations_per_s), total("functions", (each) => each.errors_per_s), total("functions", (each) => each.throttles_per_s))} />
      <${Chart} hours=${0.25} binary title="File data" labels=${["reads", "writes"]} format=${rate}
        data=${series(views, total("file_systems", (each) => each.read_bytes_per_s), total("file_systems", (each) => each.write_bytes_per_s))} />
    </div>
    <${Panel} title="Functions">
      <${Table} caption="The busiest functions" rows=${busiest} href=${(row) => `#/functions/${encodeURIComponent(row.name)}`}
        empty="No function has been invoked yet."
        columns=${[
          ["Function", (row) => row.name],
          ["Per second", (row) => count(row.invocations_per_s), "number"],
          ["p50", (row) => milliseconds(row.p50_ms), "number"],
          ["p99", (row) => milliseconds(row.p99_ms), "number"],
          ["Environments", (row) => `${row.busy} busy, ${row.idle} idle`, "number"],
          ["Errors", (row) => count(row.errors), "number"],
        ]} />
    <//>
    <${Panel} title="File systems">
      <${Table} caption="The file systems" rows=${now.file_systems} href=${(row) => `#/file-systems/${row.id}`}
        empty="There is no file system yet."
        columns=${[
          ["File system", (row) => row.name || row.id],
          ["Mode", (row) => row.mode],
          ["Reads", (row) => rate(row.read_bytes_per_s), "number"],
          ["Writes", (row) => rate(row.write_bytes_per_s), "number"],
          ["Connections", (row) => count(row.connections), "number"],
          ["Credits", (row) => (row.credits == null ? "–" : bytes(row.credits)), "number"],
          ["Run out in", (row) => (row.credits_last_s == null ? "–" : duration(row.credits_last_s)), "number"],
        ]} />
    <//>`;
}
