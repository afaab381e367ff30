import { useEffect, useRef, useState } from "preact/hooks";
import { align, Chart } from "./chart.js";
import { cloudwatch, efs, own } from "./aws.js";
import { bytes, count, duration, moment, rate, shortened, visible } from "./format.js";
import { clockKnown, series, serverNow, useLive } from "./live.js";
import { Badge, Confirm, Facts, Failure, Figure, html, Loading, Nothing, Panel, Table, useLoaded } from "./parts.js";

const state = (word) => html`<${Badge} kind=${word === "available" ? "good" : word === "error" ? "bad" : "wait"}>${word}<//>`;

export function FileSystems() {
  const [found, error] = useLoaded(efs.fileSystems, [], 15);
  const { now } = useLive();
  const live = new Map(now?.file_systems.map((each) => [each.id, each]));
  if (!found) return error ? html`<${Failure} error=${error} />` : html`<${Loading} />`;
  return html`
    <h1>File systems</h1>
    <${Failure} error=${error} />
    <${Panel}>
      <${Table} caption="File systems" rows=${found} href=${(row) => `#/file-systems/${row.FileSystemId}`}
        empty="There is no file system in this Region. Create one with boto3, the AWS CLI or a template."
        columns=${[
          ["File system", (row) => row.Name || row.FileSystemId],
          ["Id", (row) => html`<code>${row.FileSystemId}</code>`],
          ["State", (row) => state(row.LifeCycleState)],
          ["Throughput", (row) => row.ThroughputMode],
          ["Size", (row) => bytes(row.SizeInBytes.Value), "number"],
          ["Mount targets", (row) => row.NumberOfMountTargets, "number"],
          ["Connections", (row) => count(live.get(row.FileSystemId)?.connections), "number"],
          ["Credits", (row) => bytes(live.get(row.FileSystemId)?.credits), "number"],
        ]} />
    <//>`;
}

const HOURS = [1, 6, 24, 24 * 7];

function History({ id }) {
  const [hours, setHours] = useState(1);
  const wanted = [
    ["read", "DataReadIOBytes", "Sum"],
    ["write", "DataWriteIOBytes", "Sum"],
    ["metadata", "MetadataIOBytes", "Sum"],
    ["credits", "BurstCreditBalance", "Minimum"],
    ["permitted", "PermittedThroughput", "Minimum"],
    ["share", "PercentIOLimit", "Maximum"],
    ["clients", "ClientConnections", "Sum"],
  ].map(([name, metric, stat]) => ({
    id: name, namespace: "AWS/EFS", name: metric, dimensions: { FileSystemId: id }, stat,
  }));
  const period = hours <= 6 ? 60 : 300 * Math.ceil(hours / 24);
  const [data, error] = useLoaded(async () => {
    await clockKnown();
    const end = Math.floor(serverNow() / 1000);
    return cloudwatch.data(wanted, { start: end - hours * 3600, end, period });
  }, [id, hours], 60);
  if (error) return html`<${Failure} error=${error} />`;
  if (!data) return html`<${Loading} />`;
  const pace = (name) => [data[name][0], data[name][1].map((value) => value / period)];
  return html`
    <${Panel} title="Metrics" actions=${html`
      <div class="choice" role="group" aria-label="Span">${HOURS.map((each) => html`
        <button class=${each === hours ? "" : "plain"} aria-pressed=${each === hours} onClick=${() => setHours(each)}>
          ${each < 48 ? `${each} h` : `${each / 24} d`}</button>`)}</div>`}>
      <div class="charts">
        <${Chart} hours=${hours} binary title="Throughput" labels=${["reads", "writes", "metadata", "permitted"]} format=${rate}
          data=${align([pace("read"), pace("write"), pace("metadata"), data.permitted], period)} />
        <${Chart} hours=${hours} binary title="Burst credit balance" labels=${["credits"]} format=${bytes} data=${align([data.credits], period)}
          empty="Only bursting file systems have credits." />
        <${Chart} hours=${hours} title="Percent of the I/O limit" labels=${["share"]} format=${(value) => `${count(value)} %`} data=${align([data.share], period)} />
        <${Chart} hours=${hours} title="Client connections" labels=${["connections"]} format=${count} data=${align([data.clients], period)} />
      </div>
    <//>`;
}

export function FileSystem({ name: id, path }) {
  const [all, error] = useLoaded(efs.fileSystems, [], 15);
  const [targets] = useLoaded(() => efs.mountTargets(id), [id], 15);
  const [points] = useLoaded(() => efs.accessPoints(id), [id], 15);
  const { now, views } = useLive();
  if (!all) return error ? html`<${Failure} error=${error} />` : html`<${Loading} />`;
  const one = all.find((each) => each.FileSystemId === id);
  if (!one) return html`<h1>${id}</h1><${Nothing}>There is no such file system in this Region.<//>`;
  const live = now?.file_systems.find((each) => each.id === id);
  const of = (value) => (view) => {
    const found = view.file_systems.find((each) => each.id === id);
    return found && value(found);
  };
  return html`
    <p class="trail"><a href="#/file-systems">File systems</a></p>
    <h1>${one.Name || id} ${state(one.LifeCycleState)}</h1>
    <${Facts} facts=${[
      ["Id", html`<code>${id}</code>`],
      ["Throughput mode", one.ThroughputMode + (one.ProvisionedThroughputInMibps ? `, ${one.ProvisionedThroughputInMibps} MiB/s` : "")],
      ["Performance mode", one.PerformanceMode],
      ["Size", bytes(one.SizeInBytes.Value)],
      ["Created", moment(one.CreationTime * 1000)],
      ["Encrypted", one.Encrypted ? "yes" : "no"],
    ]} />
    ${live && html`
      <dl class="figures">
        <${Figure} label="Reads" value=${rate(live.read_bytes_per_s)} />
        <${Figure} label="Writes" value=${rate(live.write_bytes_per_s)} />
        <${Figure} label="Metadata" value=${`${count(live.metadata_per_s)}/s`} />
        <${Figure} label="Permitted" value=${live.permitted_bytes_per_s == null ? "unlimited" : rate(live.permitted_bytes_per_s)} />
        <${Figure} label="Credits" value=${bytes(live.credits)} kind=${live.credits_last_s != null && live.credits_last_s < 3600 ? "bad" : ""}
          note=${live.credits == null ? "" : live.credits_last_s == null ? "not being used up" : `run out in ${duration(live.credits_last_s)} at this pace`} />
        <${Figure} label="Connections" value=${count(live.connections)} />
        <${Figure} label="Locks held" value=${count(live.locks)} />
        <${Figure} label="I/O limit" value=${`${count(live.percent_io_limit)} %`} kind=${live.percent_io_limit >= 95 ? "bad" : ""} />
      </dl>
      <${Chart} hours=${0.25} binary title="Now" labels=${["reads", "writes"]} format=${rate} note="every five seconds"
        data=${series(views, of((each) => each.read_bytes_per_s), of((each) => each.write_bytes_per_s))} />`}
    <${History} id=${id} />
    <div class="columns">
      <${Panel} title="Mount targets">
        ${targets ? html`<${Table} caption="Mount targets" rows=${targets} empty="None: no function can mount it."
          columns=${[
            ["Zone", (row) => row.AvailabilityZoneName],
            ["Address", (row) => html`<code>${row.IpAddress}</code>`],
            ["Subnet", (row) => html`<code>${row.SubnetId}</code>`],
            ["State", (row) => state(row.LifeCycleState)],
          ]} />` : html`<${Loading} />`}
      <//>
      <${Panel} title="Access points">
        ${points ? html`<${Table} caption="Access points" rows=${points} empty="None."
          href=${(row) => `#/file-systems/${id}/${row.AccessPointId}`}
          columns=${[
            ["Access point", (row) => row.Name || row.AccessPointId],
            ["Root", (row) => html`<code>${row.RootDirectory?.Path ?? "/"}</code>`],
            ["Identity", (row) => (row.PosixUser ? `${row.PosixUser.Uid}:${row.PosixUser.Gid}` : "the client's")],
            ["State", (row) => state(row.LifeCycleState)],
          ]} />` : html`<${Loading} />`}
      <//>
    </div>
    <${Browser} id=${id} path=${path} />`;
}

const PIECE = 8 << 20;
const place = (root, path, name) =>
  `/_lambay/files/${[root, ...path, ...(name === undefined ? [] : [name])].map(encodeURIComponent).join("/")}`;

function Browser({ id, path }) {
  const through = path[0]?.startsWith("fsap-");
  const root = through ? path[0] : id;
  const inside = through ? path.slice(1) : path;
  const link = (parts) => `#/file-systems/${[id, ...(through ? [root] : []), ...parts].map(encodeURIComponent).join("/")}`;
  const [listing, error, again] = useLoaded(() => own.get(place(root, inside)), [root, inside.join("/")]);
  const [failure, setFailure] = useState(null);
  const [doing, setDoing] = useState("");
  const [doomed, setDoomed] = useState(null);
  const [filter, setFilter] = useState("");
  const picker = useRef();
  const box = useRef();
  useEffect(() => {
    if (path.length) box.current?.scrollIntoView();
  }, [path.join("/"), listing === undefined]);

  const attempt = (word, work) => async (...given) => {
    setFailure(null);
    setDoing(word);
    try {
      await work(...given);
      again();
    } catch (failed) {
      setFailure(failed);
    }
    setDoing("");
  };
  const upload = attempt("Uploading…", async (files) => {
    for (const file of files) {
      for (let offset = 0; offset === 0 || offset < file.size; offset += PIECE) {
        setDoing(`Uploading ${visible(file.name)}: ${bytes(offset)} of ${bytes(file.size)}`);
        const body = await file.slice(offset, offset + PIECE).arrayBuffer();
        await own.send(`${place(root, inside, file.name)}?offset=${offset}`, { method: "PUT", body });
      }
    }
  });
  const download = attempt("Downloading…", async (entry) => {
    const response = await own.send(place(root, inside, entry.name));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = shortened(entry.name);
    link.click();
    URL.revokeObjectURL(link.href);
  });
  const remove = attempt("Removing…", async (entry) => {
    setDoomed(null);
    const recursive = entry.kind === "directory" ? "?recursive=" : "";
    await own.send(`${place(root, inside, entry.name)}${recursive}`, { method: "DELETE" });
  });
  const makeDirectory = attempt("Making…", async (event) => {
    event.preventDefault();
    const { name } = Object.fromEntries(new FormData(event.target));
    await own.send(`${place(root, inside, name)}?directory=`, { method: "PUT" });
    event.target.reset();
  });

  const shown = listing?.entries.filter((each) => each.name.toLowerCase().includes(filter.toLowerCase()));
  return html`
    <div ref=${box}><${Panel} title="Files" class="files" actions=${html`
      <input type="search" placeholder="Filter" aria-label="Filter files" value=${filter} onInput=${(event) => setFilter(event.target.value)} />
      <button onClick=${() => picker.current.click()}>Upload</button>
      <input type="file" multiple hidden ref=${picker} aria-label="Files to upload"
        onChange=${(event) => { upload([...event.target.files]); event.target.value = ""; }} />`}>
      <nav class="path" aria-label="Directory">
        <a href=${link([])}>${root}</a>${inside.map((part, index) => html` / <a href=${link(inside.slice(0, index + 1))}>${visible(part)}</a>`)}
        ${through && html` <small>through the access point, as it sees it</small> <a href=${`#/file-systems/${id}`}>whole file system</a>`}
      </nav>
      <${Failure} error=${failure ?? error} />
      ${doing && html`<p role="status">${doing}</p>`}
      ${listing === undefined ? !error && html`<${Loading} />` : html`
        <div onDragOver=${(event) => event.preventDefault()}
          onDrop=${(event) => { event.preventDefault(); upload([...event.dataTransfer.files]); }}>
          <${Table} caption="Files" rows=${shown} empty=${filter ? "No name has that in it." : "This directory is empty. Drop files here."}
            columns=${[
              ["Name", (row) => row.kind === "directory"
                ? html`<a href=${link([...inside, row.name])}>${visible(row.name)}/</a>`
                : row.kind === "file"
                  ? html`<button class="link" onClick=${() => download(row)}>${visible(row.name)}</button>`
                  : html`${visible(row.name)}${row.target && html` <small>→ ${visible(row.target)}</small>`}`, "name"],
              ["Size", (row) => (row.kind === "file" ? bytes(row.bytes) : ""), "number"],
              ["Mode", (row) => html`<code>${row.mode}</code>`],
              ["Owner", (row) => html`<code>${row.uid}:${row.gid}</code>`],
              ["Modified", (row) => moment(row.modified_ms)],
              ["", (row) => html`<button class="plain" aria-label=${`Remove ${visible(row.name)}`} onClick=${() => setDoomed(row)}>Remove</button>`],
            ]} />
          ${listing.more && html`<p class="hint">There are more than are shown here.</p>`}
        </div>`}
      <form class="inline" onSubmit=${makeDirectory}>
        <label><span class="unseen">Name</span><input name="name" required placeholder="New directory" /></label><button class="plain">Make</button>
      </form>
      ${doomed && html`<${Confirm} word="Remove" onNo=${() => setDoomed(null)} onYes=${() => remove(doomed)}
        question=${doomed.kind === "directory" ? `Remove ${visible(doomed.name)} and everything in it?` : `Remove ${visible(doomed.name)}?`} />`}
    <//></div>`;
}
