import { useState } from "preact/hooks";
import { cloudwatch } from "./aws.js";
import { moment } from "./format.js";
import { Badge, Failure, html, Loading, Panel, Table, useLoaded } from "./parts.js";

const KINDS = { OK: "good", ALARM: "bad", INSUFFICIENT_DATA: "wait" };

export function Alarms() {
  const [found, error, again] = useLoaded(cloudwatch.alarms, [], 10);
  const [failure, setFailure] = useState(null);
  const [opened, setOpened] = useState(null);
  if (!found) return error ? html`<${Failure} error=${error} />` : html`<${Loading} />`;
  const rows = [...found.metric, ...found.composite].sort(
    (a, b) => (b.StateValue === "ALARM") - (a.StateValue === "ALARM") || a.AlarmName.localeCompare(b.AlarmName),
  );
  const toggle = async (row) => {
    setFailure(null);
    try {
      await cloudwatch.setActions(row.AlarmName, !row.ActionsEnabled);
      again();
    } catch (failed) {
      setFailure(failed);
    }
  };
  return html`
    <h1>Alarms</h1>
    <${Failure} error=${failure ?? error} />
    <${Panel}>
      <${Table} caption="Alarms" rows=${rows} empty="There is no alarm in this Region."
        columns=${[
          ["Alarm", (row) => html`<button class="link" aria-expanded=${opened === row.AlarmName} onClick=${() => setOpened(opened === row.AlarmName ? null : row.AlarmName)}>${row.AlarmName}</button>`],
          ["State", (row) => html`<${Badge} kind=${KINDS[row.StateValue]}>${row.StateValue.replace("_", " ").toLowerCase()}<//>`],
          ["Condition", condition, "prose"],
          ["Since", (row) => moment(row.StateUpdatedTimestamp * 1000)],
          ["Reason", (row) => html`<small>${row.StateReason}</small>`, "prose"],
          ["Actions", (row) => html`<button class="plain" aria-pressed=${row.ActionsEnabled} onClick=${() => toggle(row)}>${row.ActionsEnabled ? "on" : "off"}</button>`],
        ]} />
    <//>
    ${opened && html`<${History} name=${opened} key=${opened} />`}`;
}

const SIGNS = {
  GreaterThanOrEqualToThreshold: "≥",
  GreaterThanThreshold: ">",
  LessThanThreshold: "<",
  LessThanOrEqualToThreshold: "≤",
};

function condition(row) {
  if (row.AlarmRule) return html`<code>${row.AlarmRule}</code>`;
  const measured = row.MetricName ? `${row.ExtendedStatistic ?? row.Statistic} of ${row.MetricName}` : "an expression";
  const of = `${row.DatapointsToAlarm ?? row.EvaluationPeriods} of ${row.EvaluationPeriods} × ${row.Period ?? row.Metrics?.find((each) => each.MetricStat)?.MetricStat.Period ?? 60} s`;
  return `${measured} ${SIGNS[row.ComparisonOperator] ?? row.ComparisonOperator} ${row.Threshold ?? "band"}, ${of}`;
}

function History({ name }) {
  const [found, error] = useLoaded(() => cloudwatch.history(name), [name], 10);
  return html`
    <${Panel} title="History of ${name}">
      <${Failure} error=${error} />
      ${found ? html`<${Table} caption="History" rows=${found} empty="Nothing has happened to it."
        columns=${[
          ["When", (row) => moment(row.Timestamp * 1000)],
          ["What", (row) => row.HistoryItemType],
          ["", (row) => row.HistorySummary],
        ]} />` : !error && html`<${Loading} />`}
    <//>`;
}
