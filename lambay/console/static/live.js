// What happens now: the server's live view, kept for the last quarter of an hour.
import { useEffect, useState } from "preact/hooks";
import { own } from "./aws.js";

const KEPT_MS = 15 * 60 * 1000;
const AGAIN_MS = 2000;

const state = { views: [], error: null };
const listeners = new Set();
let following = null;

const tell = () => listeners.forEach((listener) => listener());

async function follow(signal) {
  while (!signal.aborted) {
    try {
      for await (const view of own.lines("/_lambay/live?follow=1", signal)) {
        state.error = null;
        state.views = [...state.views.filter(({ at_ms }) => at_ms > view.at_ms - KEPT_MS && at_ms < view.at_ms), view];
        tell();
      }
    } catch (error) {
      if (signal.aborted) return;
      state.error = error;
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
  return [times, ...values.map((value) => views.map((view) => value(view) ?? null))];
}
