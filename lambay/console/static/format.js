// Numbers as people read them.
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function bytes(value, digits = 1) {
  if (value == null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const step = size < 1 ? 0 : Math.min(BYTES.length - 1, Math.floor(Math.log2(size) / 10));
  return `${(value / 1024 ** step).toFixed(step ? digits : 0)} ${BYTES[step]}`;
}

export const rate = (value) => (value == null ? "–" : `${bytes(value)}/s`);

export function count(value, digits = 1) {
  if (value == null || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 1e6) return `${(value / 1e6).toFixed(digits)} M`;
  if (Math.abs(value) >= 1e4) return `${(value / 1e3).toFixed(digits)} k`;
  return Number.isInteger(value) ? String(value) : value.toFixed(digits);
}

export function duration(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

export const milliseconds = (value) => (value == null ? "–" : duration(value / 1000));

export const dollars = (value) =>
  value == null ? "–" : `$${value.toFixed(value !== 0 && Math.abs(value) < 0.1 ? 6 : 2)}`;

export const time = (ms) =>
  new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export const moment = (ms) => `${new Date(ms).toLocaleDateString()} ${time(ms)}`;

// Control characters, and those that are not seen or turn the order of letters round.
const UNSEEN = /[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const NAMED = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A file's name with every character in sight. */
export const visible = (name) =>
  name.replace(UNSEEN, (character) => NAMED[character] ?? `\\u{${character.codePointAt(0).toString(16)}}`);

const LONGEST = 200;

/** A name for a download, of at most 200 bytes: browsers put an ending of their own behind it meanwhile. */
export function shortened(name) {
  const size = (text) => new TextEncoder().encode(text).length;
  if (size(name) <= LONGEST) return name;
  const ending = /\.[^.]{1,16}$/u.exec(name)?.[0] ?? "";
  const kept = [...name.slice(0, name.length - ending.length)];
  while (size(kept.join("") + ending) > LONGEST) kept.pop();
  return kept.join("") + ending;
}
