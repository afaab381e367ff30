// The pieces that every view is made of.
import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";

export const html = htm.bind(h);

/** `[value, error, again]` of an asynchronous `load`, anew when `inputs` change and every `seconds`. */
export function useLoaded(load, inputs, seconds = 0) {
  const [state, setState] = useState([undefined, null]);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let current = true;
    let timer;
    const run = async () => {
      try {
        const value = await load();
        if (current) setState([value, null]);
      } catch (error) {
        if (current) setState(([before]) => [before, error]);
      }
      if (current && seconds) timer = setTimeout(run, seconds * 1000);
    };
    run();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [...inputs, turn]);
  return [...state, () => setTurn((before) => before + 1)];
}

export const Failure = ({ error }) =>
  error && html`<p class="failure" role="alert"><strong>${error.code ?? "Failed"}</strong> ${error.message}</p>`;

export const Loading = () => html`<p class="loading" aria-busy="true">Loading…</p>`;

export const Nothing = ({ children }) => html`<p class="nothing">${children}</p>`;

export const Badge = ({ kind, children }) => html`<span class="badge ${kind}">${children}</span>`;

export const Figure = ({ label, value, note, kind = "" }) => html`
  <div class="figure ${kind}"><dt>${label}</dt><dd>${value}</dd>${note && html`<small>${note}</small>`}</div>`;

export const Panel = ({ title, actions, children, class: name = "" }) => html`
  <section class="panel ${name}">
    ${title && html`<header><h2>${title}</h2>${actions}</header>`}
    ${children}
  </section>`;

/** `columns`: [[heading, row => cell, "number", "name" or "prose"?]]. Rows that lead somewhere have `href`. Of a long
 *  table `most` rows are shown, and as many more each time that they are asked for: browsers take long for thousands. */
export function Table({ columns, rows, href, empty, caption, most = 500 }) {
  const [shown, setShown] = useState(most);
  if (!rows.length) return html`<${Nothing}>${empty}<//>`;
  return html`
    <div class="scroll ${columns.some(([, , kind]) => kind === "prose") ? "told" : ""}" tabindex="0" role="region" aria-label=${caption}>
      <table>
        <thead><tr>${columns.map(([name, , kind]) => html`<th scope="col" class=${kind ?? ""}>${name}</th>`)}</tr></thead>
        <tbody>
          ${rows.slice(0, shown).map((row) => html`
            <tr>${columns.map(([name, cell, kind], index) => html`
              <td class=${kind ?? ""} data-heading=${name}>${index === 0 && href ? html`<a href=${href(row)}>${cell(row)}</a>` : cell(row)}</td>`)}
            </tr>`)}
        </tbody>
      </table>
      ${rows.length > shown && html`
        <p class="more">The first ${shown.toLocaleString()} of ${rows.length.toLocaleString()}. <button class="link" onClick=${() => setShown(shown + most)}>Show more</button></p>`}
    </div>`;
}

export const Facts = ({ facts }) => html`
  <dl class="facts">${facts
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** A question before something that cannot be taken back. */
export function Confirm({ question, word, onYes, onNo }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  return html`
    <dialog ref=${dialog} onClose=${onNo} onCancel=${onNo}>
      <p>${question}</p>
      <div class="buttons">
        <button class="plain" onClick=${() => dialog.current.close()}>Cancel</button>
        <button class="danger" onClick=${onYes}>${word}</button>
      </div>
    </dialog>`;
}
