import { useEffect, useRef, useState } from "preact/hooks";
import { align, Chart } from "./chart.js";
import { cloudwatch, lambda, own, region } from "./aws.js";
import { bytes, count, duration, milliseconds, moment, time } from "./format.js";
import { clockKnown, serverNow, useLive } from "./live.js";
import { Badge, Facts, Failure, Figure, html, Loading, Nothing, Panel, Table, useLoaded } from "./parts.js";

const KINDS = { Active: "good", Pending: "wait", Inactive: "wait", Failed: "bad" };

export function Functions() {
  const [found, error] = useLoaded(lambda.functions, [], 15);
  const [filter, setFilter] = useState("");
  const { now } = useLive();
  if (!found) return error ? html`<${Failure} error=${error} />` : html`<${Loading} />`;
  const live = new Map(now?.functions.filter((each) => each.region === region()).map((each) => [each.name, each]));
  const rows = found.filter((each) => each.FunctionName.toLowerCase().includes(filter.toLowerCase()));
  return html`
    <h1>Functions</h1>
    <${Failure} error=${error} />
    <${Panel} actions=${html`<input type="search" placeholder="Filter" aria-label="Filter functions" value=${filter} onInput=${(event) => setFilter(event.target.value)} />`} title="${found.length} functions">
      <${Table} caption="Functions" rows=${rows} href=${(row) => `#/functions/${encodeURIComponent(row.FunctionName)}`}
        empty=${filter ? "No name has that in it." : "There is no function in this Region."}
        columns=${[
          ["Function", (row) => row.FunctionName],
          ["Runtime", (row) => row.Runtime ?? "image"],
          ["Memory", (row) => `${row.MemorySize} MB`, "number"],
          ["File system", (row) => row.FileSystemConfigs?.[0]?.LocalMountPath ?? ""],
          ["Environments", (row) => { const one = live.get(row.FunctionName); return one ? `${one.busy + one.idle} (${one.busy} busy)` : "0"; }, "number"],
          ["p50", (row) => milliseconds(live.get(row.FunctionName)?.p50_ms), "number"],
          ["Invocations", (row) => count(live.get(row.FunctionName)?.invocations ?? 0), "number"],
          ["Errors", (row) => count(live.get(row.FunctionName)?.errors ?? 0), "number"],
        ]} />
    <//>`;
}

export function Lambda({ name }) {
  const [one, error] = useLoaded(() => lambda.configuration(name), [name], 10);
  const { now } = useLive();
  if (!one) return error ? html`<h1>${name}</h1><${Failure} error=${error} />` : html`<${Loading} />`;
  const live = now?.functions.find((each) => each.name === name && each.region === region());
  const environments = now?.environments.filter((each) => each.function === name) ?? [];
  const mount = one.FileSystemConfigs?.[0];
  return html`
    <p class="trail"><a href="#/functions">Functions</a></p>
    <h1>${name} <${Badge} kind=${KINDS[one.State] ?? "wait"}>${one.State}<//></h1>
    ${one.StateReason && html`<p class="failure">${one.StateReason}</p>`}
    <${Facts} facts=${[
      ["Runtime", one.Runtime ?? "container image"],
      ["Handler", one.Handler && html`<code>${one.Handler}</code>`],
      ["Memory", `${one.MemorySize} MB`],
      ["Timeout", duration(one.Timeout)],
      ["Role", html`<code>${one.Role.split("/").pop()}</code>`],
      ["Mount", mount && html`<code>${mount.LocalMountPath}</code> ← <code>${mount.Arn.split("/").pop()}</code>`],
      ["Subnets", one.VpcConfig?.SubnetIds?.length ? one.VpcConfig.SubnetIds.map((each) => html`<code>${each}</code> `) : ""],
      ["Changed", one.LastModified && moment(Date.parse(one.LastModified))],
    ]} />
    ${live && html`
      <dl class="figures">
        <${Figure} label="Now" value=${`${count(live.invocations_per_s)}/s`} />
        <${Figure} label="Environments" value=${count(live.busy + live.idle)} note=${`${live.busy} busy, ${live.provisioned} provisioned`} />
        <${Figure} label="p50" value=${milliseconds(live.p50_ms)} />
        <${Figure} label="p99" value=${milliseconds(live.p99_ms)} />
        <${Figure} label="Cold starts" value=${`${count(live.cold_starts_per_s)}/s`} />
        <${Figure} label="Errors" value=${count(live.errors)} kind=${live.errors_per_s > 0 ? "bad" : ""} note="since the start" />
        <${Figure} label="Throttles" value=${count(live.throttles)} note="since the start" />
      </dl>`}
    <div class="columns">
      <${Test} name=${name} />
      <${Tail} group=${one.LoggingConfig?.LogGroup ?? `/aws/lambda/${name}`} />
    </div>
    <${Metrics} name=${name} />
    ${mount && html`<${Explain} name=${name} />`}
    <${Panel} title="Execution environments">
      <${Table} caption="Execution environments" rows=${environments} empty="None is alive: the next invocation starts one."
        columns=${[
          ["Environment", (row) => html`<code>${row.id}</code>`],
          ["Version", (row) => row.version],
          ["State", (row) => html`<${Badge} kind=${row.state === "busy" ? "good" : "wait"}>${row.state}<//>`],
          ["Age", (row) => duration(row.age_s), "number"],
          ["Invocations", (row) => count(row.invocations), "number"],
          ["Memory", (row) => bytes(row.memory_bytes), "number"],
          ["Mount", (row) => row.mount || ""],
        ]} />
    <//>`;
}

function Test({ name }) {
  const [payload, setPayload] = useState(sessionStorage.getItem(`lambay.test.${name}`) ?? "{}");
  const [result, setResult] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const run = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      JSON.parse(payload);
    } catch (wrong) {
      setError({ code: "No JSON", message: wrong.message });
      return;
    }
    sessionStorage.setItem(`lambay.test.${name}`, payload);
    setBusy(true);
    try {
      setResult(await lambda.invoke(name, payload));
    } catch (failed) {
      setResult(null);
      setError(failed);
    }
    setBusy(false);
  };
  const keys = (event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && run(event);
  return html`
    <${Panel} title="Test">
      <form onSubmit=${run}>
        <label>Event <textarea rows="5" spellcheck=${false} value=${payload} onKeyDown=${keys} onInput=${(event) => setPayload(event.target.value)} /></label>
        <button disabled=${busy}>${busy ? "Running…" : "Invoke"}</button> <small>Ctrl+Enter</small>
      </form>
      <${Failure} error=${error} />
      ${result && html`
        <p role="status">${result.error ? html`<${Badge} kind="bad">${result.error}<//>` : html`<${Badge} kind="good">Succeeded<//>`} in ${milliseconds(result.milliseconds)}</p>
        <pre class="result">${pretty(result.payload)}</pre>
        <details><summary>Log</summary><pre>${result.log}</pre></details>`}
    <//>`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const KEPT_LINES = 500;
const TOGETHER_MS = 150;
const AGAIN_MS = 2000;

function Tail({ group }) {
  const [lines, setLines] = useState([]);
  const [error, setError] = useState(null);
  const [filter, setFilter] = useState("");
  const box = useRef();
  // Who has scrolled back reads on where he is.
  const atEnd = useRef(true);
  useEffect(() => {
    const following = new AbortController();
    setLines([]);
    setError(null);
    const since = serverNow() - 15 * 60 * 1000;
    let arrived = [];
    let drawing = 0;
    const draw = () => {
      const fresh = arrived;
      arrived = [];
      drawing = 0;
      setLines((before) => [...before, ...fresh].slice(-KEPT_LINES));
    };
    const parameters = new URLSearchParams({ group, since, region: region() });
    // Those of the latest moment come once more when the server has been away.
    let latest = [];
    let again = [];
    const take = (line) => {
      const mark = JSON.stringify(line);
      const known = again.indexOf(mark);
      if (known >= 0) {
        again.splice(known, 1);
        return;
      }
      if (line.timestamp > parameters.get("since")) {
        parameters.set("since", line.timestamp);
        latest = [];
      }
      if (line.timestamp >= parameters.get("since")) latest.push(mark);
      arrived.push(line);
      drawing ||= setTimeout(draw, TOGETHER_MS);
    };
    (async () => {
      while (!following.signal.aborted) {
        again = [...latest];
        try {
          for await (const line of own.lines(`/_lambay/logs/tail?${parameters}`, following.signal)) {
            setError(null);
            take(line);
          }
        } catch (failed) {
          if (!following.signal.aborted) setError(failed);
        }
        await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    })();
    return () => {
      following.abort();
      clearTimeout(drawing);
    };
  }, [group]);
  const shown = lines.filter(({ message }) => message.toLowerCase().includes(filter.toLowerCase()));
  useEffect(() => {
    if (atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, filter, error]);
  const scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  return html`
    <${Panel} title="Log" actions=${html`<input type="search" placeholder="Filter" aria-label="Filter the log" value=${filter} onInput=${(event) => setFilter(event.target.value)} />`}>
      <${Failure} error=${error} />
      <div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label=${group}>
        ${shown.length === 0 && html`<${Nothing}>${filter ? "No line has that in it." : "Nothing was logged in the last quarter of an hour."}<//>`}
        ${shown.map((line) => html`<p><time>${time(line.timestamp)}</time> ${line.message.trimEnd()}</p>`)}
      </div>
    <//>`;
}

function Metrics({ name }) {
  const wanted = [
    ["invocations", "Invocations", "Sum"],
    ["errors", "Errors", "Sum"],
    ["throttles", "Throttles", "Sum"],
    ["p50", "Duration", "p50"],
    ["p99", "Duration", "p99"],
    ["concurrent", "ConcurrentExecutions", "Maximum"],
  ].map(([id, metric, stat]) => ({
    id, namespace: "AWS/Lambda", name: metric, dimensions: { FunctionName: name }, stat,
  }));
  const [data, error] = useLoaded(async () => {
    await clockKnown();
    const end = Math.floor(serverNow() / 1000);
    return cloudwatch.data(wanted, { start: end - 3 * 3600, end, period: 60 });
  }, [name], 60);
  if (error) return html`<${Failure} error=${error} />`;
  if (!data) return html`<${Loading} />`;
  return html`
    <${Panel} title="Metrics of three hours">
      <div class="charts">
        <${Chart} hours=${3} title="Invocations a minute" labels=${["invocations", "errors", "throttles"]} format=${count} data=${align([data.invocations, data.errors, data.throttles])} />
        <${Chart} hours=${3} title="Duration" labels=${["p50", "p99"]} format=${milliseconds} data=${align([data.p50, data.p99])} />
        <${Chart} hours=${3} title="Concurrent executions" labels=${["concurrent"]} format=${count} data=${align([data.concurrent])} />
      </div>
    <//>`;
}

function Explain({ name }) {
  const [asked, setAsked] = useState(0);
  const [told, error] = useLoaded(
    () => (asked ? own.get(`/_lambay/explain?${new URLSearchParams({ arn: name, region: region() })}`) : Promise.resolve(null)),
    [name, asked],
  );
  return html`
    <${Panel} title="Can it mount?" actions=${html`<button class="plain" onClick=${() => setAsked(asked + 1)}>Explain</button>`}>
      <${Failure} error=${error} />
      ${told ? html`<${Explained} told=${told} />` : !error && html`<${Nothing}>Walks from the role through the network to the directory's permissions, and names the first thing that stops the mount.<//>`}
    <//>`;
}

const OUTCOMES = { ok: "good", failed: "bad", note: "wait", unknown: "wait" };

const Explained = ({ told }) => html`
  ${told.ok ? html`<p><${Badge} kind="good">It can<//> Nothing stops the mount.</p>` : html`<p class="failure">${told.cause}</p>`}
  <ol class="checks">${told.steps.map((each) => html`
    <li><${Badge} kind=${OUTCOMES[each.outcome]}>${each.outcome}<//> <strong>${each.check}</strong> ${each.sentence}</li>`)}</ol>`;
