import { useState } from "preact/hooks";
import { own } from "./aws.js";
import { dollars } from "./format.js";
import { Failure, Figure, html, Loading, Panel, Table, useLoaded } from "./parts.js";

export function Costs() {
  const [found, error] = useLoaded(() => own.get("/_lambay/costs"), [], 60);
  const [filter, setFilter] = useState("");
  if (!found) return error ? html`<h1>Costs</h1><${Failure} error=${error} />` : html`<${Loading} />`;
  const shown = found.items.filter((row) =>
    `${row.service} ${row.resource} ${row.usage}`.toLowerCase().includes(filter.toLowerCase()));
  return html`
    <h1>Costs</h1>
    <p class="lead">What this month's usage would cost in AWS${found.prices_of ? ` at the list prices of ${found.prices_of}` : ""}. Lambay itself charges nothing.</p>
    <dl class="figures">
      <${Figure} label="This month so far" value=${dollars(found.total)} />
      ${found.services.map((each) => html`<${Figure} label=${each.service} value=${dollars(each.amount)} />`)}
    </dl>
    <${Panel} title="By resource" actions=${html`
      <input type="search" placeholder="Filter" aria-label="Filter costs" value=${filter} onInput=${(event) => setFilter(event.target.value)} />`}>
      <${Table} caption="Costs by resource" rows=${shown} most=${100}
        empty=${filter ? "Nothing has that in it." : "Nothing has been used yet this month."}
        columns=${[
          ["Service", (row) => row.service],
          ["Resource", (row) => html`<code>${row.resource}</code>`],
          ["For", (row) => row.usage],
          ["Quantity", (row) => `${row.quantity > 0 && row.quantity < 0.0001 ? "< 0.0001" : Number(row.quantity.toPrecision(4))} ${row.unit}`, "number"],
          ["Amount", (row) => dollars(row.amount), "number"],
        ]} />
    <//>`;
}
