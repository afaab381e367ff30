// The shell: sign-in, navigation, keys.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { credentials, REFUSED, region, setRegion, signIn, signOut } from "./aws.js";
import { stop, useLive } from "./live.js";
import { Failure, html } from "./parts.js";
import { Alarms } from "./alarms.js";
import { Costs } from "./costs.js";
import { FileSystem, FileSystems } from "./file_systems.js";
import { Lambda, Functions } from "./functions.js";
import { Network } from "./network.js";
import { Overview } from "./overview.js";

const PLACES = [
  ["overview", "Overview", "o", Overview],
  ["network", "Network", "n", Network],
  ["file-systems", "File systems", "s", FileSystems, FileSystem],
  ["functions", "Functions", "f", Functions, Lambda],
  ["alarms", "Alarms", "a", Alarms],
  ["costs", "Costs", "c", Costs],
];

function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
}

function useKeys(setHelp) {
  useEffect(() => {
    let leading = -Infinity;
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input, textarea, select, dialog")) return;
      const gone = event.timeStamp - leading < 1200;
      leading = -Infinity;
      if (gone) {
        const place = PLACES.find(([, , key]) => key === event.key);
        if (place) {
          event.preventDefault();
          location.hash = `/${place[0]}`;
        }
      } else if (event.key === "g") leading = event.timeStamp;
      else if (event.key === "?") setHelp(true);
      else if (event.key === "/") {
        const filter = document.querySelector("input[type=search]");
        if (filter) {
          event.preventDefault();
          filter.focus();
        }
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Help({ onClose }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  return html`
    <dialog ref=${dialog} onClose=${onClose} class="help">
      <h2>Keys</h2>
      <dl>
        ${PLACES.map(([, name, key]) => html`<div><dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${name}</dd></div>`)}
        <div><dt><kbd>/</kbd></dt><dd>filter the list</dd></div>
        <div><dt><kbd>?</kbd></dt><dd>this help</dd></div>
      </dl>
      <div class="buttons"><button onClick=${() => dialog.current.close()}>Close</button></div>
    </dialog>`;
}

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function useTheme() {
  const [theme, setTheme] = useState(localStorage.getItem("lambay.theme") ?? "auto");
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("lambay.theme", theme);
    dispatchEvent(new Event("lambay:theme"));
  }, [theme]);
  return [theme, setTheme];
}

function SignIn({ refused, onDone }) {
  const [error, setError] = useState(refused);
  const [busy, setBusy] = useState(false);
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const submit = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    setBusy(true);
    try {
      await signIn({ ...given, sessionToken: given.sessionToken || undefined });
      onDone();
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <h1><img src="/_lambay/console/static/mark.svg" alt="" width="32" height="32" /> Lambay</h1>
        <label>Access key ID <input name="accessKeyId" required autofocus autocomplete="username" spellcheck=${false} /></label>
        <label>Secret access key <input name="secretAccessKey" type="password" required autocomplete="current-password" /></label>
        <details><summary>Session and Region</summary>
          <label>Session token <input name="sessionToken" autocomplete="off" spellcheck=${false} /></label>
          <label>Region <input name="region" required value="us-east-1" pattern="[a-z]{2}(-[a-z]+)+-\\d" /></label>
        </details>
        <${Failure} error=${error} />
        <button disabled=${busy}>Sign in</button>
        ${here && html`<p class="hint">Unless it was set otherwise, the root key of a server on this machine is <code>test</code> / <code>test</code>. It stays in this tab, and signs each request here.</p>`}
      </form>
    </main>`;
}

function Shell({ onLeave }) {
  const [place = "overview", ...rest] = useHash();
  const [help, setHelp] = useState(false);
  const [theme, setTheme] = useTheme();
  const [, redraw] = useState(0);
  const { error } = useLive();
  useKeys(setHelp);
  const chosen = PLACES.find(([name]) => name === place) ?? PLACES[0];
  const [, title, , List, One] = chosen;
  useEffect(() => {
    document.title = `${rest[0] ?? title} · Lambay`;
    document.querySelector("main")?.focus({ preventScroll: true });
    // On a small screen the bar is wider than the screen.
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [place, rest[0]]);
  const named = One && rest.length > 0 && rest[0];
  const themes = Object.keys(THEMES);
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("main").focus(); }}>To the content</a>
    <header class="bar">
      <a class="brand" href="#/overview"><img src="/_lambay/console/static/mark.svg" alt="" width="24" height="24" /> Lambay</a>
      <nav aria-label="Console">
        ${PLACES.map(([name, label]) => html`<a href=${`#/${name}`} aria-current=${name === chosen[0] ? "page" : undefined}>${label}</a>`)}
      </nav>
      <div class="who">
        <label class="region"><span class="unseen">Region</span>
          <input value=${region()} size="12" spellcheck=${false}
            onChange=${(event) => { setRegion(event.target.value.trim()); redraw((turn) => turn + 1); }} /></label>
        <button class="plain icon" title=${THEMES[theme]} aria-label=${THEMES[theme]}
          onClick=${() => setTheme(themes[(themes.indexOf(theme) + 1) % themes.length])}>${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>
        <button class="plain icon" title="Keys" aria-label="Keys" onClick=${() => setHelp(true)}>?</button>
        <button class="plain" onClick=${onLeave} title=${credentials().arn}>Sign out</button>
      </div>
    </header>
    <main id="main" tabindex="-1" key=${`${region()} ${chosen[0]} ${named || ""}`}>
      ${error && html`<p class="failure" role="status">Nothing live: ${error.message}</p>`}
      ${named ? html`<${One} name=${rest[0]} path=${rest.slice(1)} />` : html`<${List} />`}
    </main>
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

function App() {
  const [known, setKnown] = useState(credentials() !== null);
  const [refused, setRefused] = useState(null);
  const leave = () => {
    stop();
    signOut();
    setRefused(null);
    setKnown(false);
  };
  useEffect(() => {
    const refuse = (event) => {
      leave();
      setRefused(event.detail);
    };
    addEventListener(REFUSED, refuse);
    return () => removeEventListener(REFUSED, refuse);
  }, []);
  return known ? html`<${Shell} onLeave=${leave} />` : html`<${SignIn} refused=${refused} onDone=${() => setKnown(true)} />`;
}

render(html`<${App} />`, document.getElementById("app"));
