// What happens now: the server's live view, kept for the last quarter of an hour.
import { useEffect, useState } from "preact/hooks";
import { own } from "./aws.js";
import { holes } from "./holes.js";

const KEPT_MS = 15 * 60 * 1000;
const AGAIN_MS = 2000;

const GAP_S = 20;

const state = { views: [], error: null, aheadMs: 0 };
let told;
const first = new Promise((resolve) => (told = resolve));

/** Milliseconds since the epoch by the server's clock, which may have been advanced. */
export const serverNow = () => Date.now() + state.aheadMs;

/** When the server's clock is known, or cannot be. */
export const clockKnown = () => Promise.race([first, new Promise((done) => setTimeout(done, AGAIN_MS))]);

const listeners = new Set();
let following = null;

const tell = () => listeners.forEach((listener) => listener());

async function follow(signal) {
  while (!signal.aborted) {
    try {
      for await (const view of own.lines("/_lambay/live?follow=1", signal)) {
        state.error = null;
        state.aheadMs = view.at_ms - Date.now();
        told();
        state.views = [...state.views.filter(({ at_ms }) => at_ms > view.at_ms - KEPT_MS && at_ms < view.at_ms), view];
        tell();
      }
    } catch (error) {
      if (signal.aborted) return;
      state.error = error;
      told();
      tell();
    }
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

export function stop() {
  following?.abort();
  following = null;
  state.views = [];
  state.error = null;
}

/** {now, views, error}: the latest view, those before it, and what keeps newer ones away. */
export function useLive() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((turn) => turn + 1);
    listeners.add(listener);
    if (!following) {
      following = new AbortController();
      follow(following.signal);
    }
    return () => listeners.delete(listener);
  }, []);
  return { now: state.views.at(-1), views: state.views, error: state.error };
}

/** Lines for a chart out of the kept views. */
export function series(views, ...values) {
  const times = views.map(({ at_ms }) => at_ms / 1000);
  return holes([times, ...values.map((value) => views.map((view) => value(view) ?? null))], GAP_S);
}
