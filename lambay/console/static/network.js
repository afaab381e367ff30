// The map: who is in which subnet, and which function reaches which mount target.
import { useState } from "preact/hooks";
import { own, region } from "./aws.js";
import { Badge, Failure, html, Loading, Nothing, Panel, useLoaded } from "./parts.js";

const FUNCTION = { width: 250, height: 46, gap: 12 };
const SUBNET = { width: 470, gap: 14 };
const TARGET = { height: 46, gap: 8 };
const HEAD = 60;
const EDGE = 16;
const SUBNETS_AT = EDGE + FUNCTION.width + 220;
const WIDTH = SUBNETS_AT + SUBNET.width + EDGE;

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const groups = (ids) => (ids.length > 1 ? `${ids[0]} +${ids.length - 1}` : ids[0] ?? "");

/** Where everything of one VPC lies: functions to the left, subnets by zone and their mount targets to the right. */
function layOut(vpc, functions) {
  let bottom = HEAD;
  const subnets = vpc.subnets.map((subnet) => {
    const y = bottom;
    const height = 48 + Math.max(0.6, subnet.mount_targets.length) * (TARGET.height + TARGET.gap);
    bottom += height + SUBNET.gap;
    const targets = subnet.mount_targets.map((target, index) => ({
      ...target, x: SUBNETS_AT + 12, y: y + 44 + index * (TARGET.height + TARGET.gap), width: SUBNET.width - 24,
    }));
    return { ...subnet, x: SUBNETS_AT, y, height, targets };
  });
  const inside = functions.filter((each) => each.vpc === vpc.id);
  const step = FUNCTION.height + FUNCTION.gap;
  const first = HEAD + Math.max(0, (bottom - HEAD - inside.length * step) / 2);
  const nodes = inside.map((each, index) => ({ ...each, x: EDGE, y: first + index * step }));
  return { subnets, nodes, height: Math.max(bottom, HEAD + nodes.length * step) + 4 };
}

function Vpc({ vpc, drawn, chosen, setChosen }) {
  const { subnets, nodes, height } = layOut(vpc, drawn.functions);
  const targets = new Map(subnets.flatMap((subnet) => subnet.targets.map((target) => [target.id, target])));
  const places = new Map(nodes.map((node) => [node.name, node]));
  // What is blocked lies on top, or a line that passes would hide it.
  const lines = drawn.connections
    .filter((each) => places.has(each.function) && targets.has(each.mount_target))
    .sort((a, b) => Boolean(a.problem) - Boolean(b.problem));
  const inSubnet = (id) => nodes.filter((node) => node.subnets.includes(id)).length;
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${`Map of ${vpc.id}`}>
      <svg class="map" viewBox="0 0 ${WIDTH} ${height}" role="group" aria-label=${`VPC ${vpc.name || vpc.id}`}>
        <rect class="vpc" x="1" y="1" width=${WIDTH - 2} height=${height - 2} rx="10" />
        <text class="strong" x=${EDGE} y="26">${short(vpc.name || vpc.id, 40)}</text>
        <text class="quiet" x=${EDGE} y="44">${vpc.name ? `${vpc.id} · ` : ""}${vpc.cidr}</text>
        ${subnets.map((subnet) => html`
          <g>
            <rect class="subnet" x=${subnet.x} y=${subnet.y} width=${SUBNET.width} height=${subnet.height} rx="8" />
            <text x=${subnet.x + 12} y=${subnet.y + 19}>${short(subnet.name || subnet.id, 34)}</text>
            <text class="zone" x=${subnet.x + SUBNET.width - 12} y=${subnet.y + 19} text-anchor="end">${subnet.zone}</text>
            <text class="quiet" x=${subnet.x + 12} y=${subnet.y + 35}>${subnet.cidr} · ${subnet.route}</text>
            ${subnet.targets.length === 0 && html`<text class="quiet" x=${subnet.x + 12} y=${subnet.y + 62}>no mount target; functions here: ${inSubnet(subnet.id)}</text>`}
          </g>`)}
        ${lines.map((each) => {
          const from = places.get(each.function);
          const to = targets.get(each.mount_target);
          const [x1, y1, x2, y2] = [from.x + FUNCTION.width, from.y + FUNCTION.height / 2, to.x, to.y + TARGET.height / 2];
          const dim = chosen && chosen !== each.function && chosen !== each.mount_target;
          return html`
            <path class="line ${each.problem ? "bad" : ""} ${dim ? "dim" : ""}"
              d=${`M${x1},${y1} C${x1 + 110},${y1} ${x2 - 130},${y2} ${x2 - 1},${y2}`}>
              <title>${each.function} → ${each.mount_target}: ${each.problem || "TCP 2049 passes"}</title>
            </path>
            ${each.problem && html`<text class="cross ${dim ? "dim" : ""}" x=${(x1 + x2) / 2 - 7.5} y=${(y1 + y2) / 2 + 5} text-anchor="middle">✕</text>`}`;
        })}
        ${nodes.map((node) => html`
          <a href=${`#/functions/${encodeURIComponent(node.name)}`} aria-label=${`Function ${node.name}`}
            onMouseEnter=${() => setChosen(node.name)} onMouseLeave=${() => setChosen(null)}
            onFocus=${() => setChosen(node.name)} onBlur=${() => setChosen(null)}>
            <title>${node.name}</title>
            <rect class="node ${lines.some((each) => each.function === node.name && each.problem) ? "bad" : ""}" x=${node.x} y=${node.y} width=${FUNCTION.width} height=${FUNCTION.height} rx="8" />
            <text x=${node.x + 12} y=${node.y + 19}>λ ${short(node.name, 30)}</text>
            <text class="quiet" x=${node.x + 12} y=${node.y + 36}>${node.path || "no file system"}</text>
            <text class="quiet" x=${node.x + FUNCTION.width - 10} y=${node.y + 36} text-anchor="end">${groups(node.security_groups)}</text>
          </a>`)}
        ${[...targets.values()].map((target) => html`
          <a href=${`#/file-systems/${target.file_system}`} aria-label=${`Mount target ${target.id} of ${target.file_system}`}
            onMouseEnter=${() => setChosen(target.id)} onMouseLeave=${() => setChosen(null)}
            onFocus=${() => setChosen(target.id)} onBlur=${() => setChosen(null)}>
            <rect class="target" x=${target.x} y=${target.y} width=${target.width} height=${TARGET.height} rx="6" />
            <text x=${target.x + 10} y=${target.y + 19}>${short(drawn.file_systems[target.file_system] || target.file_system, 44)}</text>
            <text class="quiet" x=${target.x + 10} y=${target.y + 36}>${target.address} · ${target.state}</text>
            <text class="quiet" x=${target.x + target.width - 10} y=${target.y + 36} text-anchor="end">${groups(target.security_groups)}</text>
          </a>`)}
      </svg>
    </div>`;
}

const MOST_CHIPS = 60;

export function Network() {
  const [drawn, error, again] = useLoaded(() => own.get(`/_lambay/map?region=${region()}`), [], 10);
  const [chosen, setChosen] = useState(null);
  if (!drawn) return error ? html`<h1>Network</h1><${Failure} error=${error} />` : html`<${Loading} />`;
  const barred = drawn.connections.filter((each) => each.problem);
  const outside = drawn.functions.filter((each) => !each.vpc);
  return html`
    <h1>Network</h1>
    <${Failure} error=${error} />
    ${barred.length > 0 && html`
      <${Panel} title="Blocked">
        <ul class="plain-list">${barred.map((each) => html`
          <li><${Badge} kind="bad">blocked<//> <a href=${`#/functions/${encodeURIComponent(each.function)}`}>${each.function}</a> → ${each.mount_target || "its file system"}
            <p>${each.problem}</p></li>`)}</ul>
      <//>`}
    ${drawn.vpcs.length === 0 && html`<${Nothing}>No mount target and no function is in a VPC of this Region.<//>`}
    ${drawn.vpcs.map((vpc) => html`<${Vpc} key=${vpc.id} vpc=${vpc} drawn=${drawn} chosen=${chosen} setChosen=${setChosen} />`)}
    ${drawn.vpcs.length > 0 && html`<p class="legend"><span class="key"></span> TCP 2049 passes <span class="key bad"></span> blocked, with the first thing that stops it</p>`}
    ${outside.length > 0 && html`
      <${Panel} title="Functions without a VPC">
        <ul class="chips">${outside.slice(0, MOST_CHIPS).map((each) => html`<li><a href=${`#/functions/${encodeURIComponent(each.name)}`}>λ ${each.name}</a></li>`)}
          ${outside.length > MOST_CHIPS && html`<li><a href="#/functions">and ${(outside.length - MOST_CHIPS).toLocaleString()} more</a></li>`}</ul>
      <//>`}`;
}
