// Lambay's API as the browser calls it: every request is signed here with the user's own key.
import { AwsClient } from "aws4fetch";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The event that the key that was signed in with is good no more; its detail is the error. */
export const REFUSED = "lambay:refused";
const WORN_OUT = ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"];

const KEY = "lambay.credentials";
let signedIn = read();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

export const credentials = () => signedIn;

/** Keeps the key for this tab alone, once the server has said that it is right. */
export async function signIn(given) {
  if (!globalThis.crypto?.subtle) {
    throw new ApiError(0, "InsecureContext", "Browsers sign only on https or localhost: open the console there.");
  }
  signedIn = given;
  try {
    const answer = await query("sts", "2011-06-15", "GetCallerIdentity");
    signedIn = { ...given, arn: answer.querySelector("Arn").textContent };
    sessionStorage.setItem(KEY, JSON.stringify(signedIn));
  } catch (error) {
    signedIn = null;
    throw error;
  }
}

export function signOut() {
  sessionStorage.removeItem(KEY);
  signedIn = null;
}

export const region = () => signedIn?.region;

export function setRegion(name) {
  signedIn = { ...signedIn, region: name };
  sessionStorage.setItem(KEY, JSON.stringify(signedIn));
}

async function send(service, path, { repeatable, ...init } = {}) {
  const { accessKeyId, secretAccessKey, sessionToken } = signedIn;
  const client = new AwsClient({
    accessKeyId, secretAccessKey, sessionToken, service, region: region(), retries: 0,
  });
  const link = new URL(path, location.origin).href;
  let response;
  // What only reads is asked again when the host's networks change under the browser.
  for (let tries = repeatable || !init.method ? 3 : 1; !response; tries--) {
    try {
      response = await client.fetch(link, init);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (tries === 1) throw new ApiError(0, "Unreachable", "The server does not answer.");
      await new Promise((done) => setTimeout(done, 300));
    }
  }
  if (response.ok) return response;
  const failed = await failure(response);
  if (WORN_OUT.includes(failed.code) && signedIn?.arn) dispatchEvent(new CustomEvent(REFUSED, { detail: failed }));
  throw failed;
}

async function failure(response) {
  const text = await response.text();
  let code = response.headers.get("x-amzn-errortype")?.split(":")[0] ?? `HTTP ${response.status}`;
  let message = text;
  try {
    const said = JSON.parse(text);
    message = said.message ?? said.Message ?? said.errorMessage ?? text;
    code = (said.__type ?? said.code ?? said.Code ?? code).split("#").pop();
  } catch {
    const said = new DOMParser().parseFromString(text, "text/xml");
    message = said.querySelector("Message")?.textContent ?? text;
    code = said.querySelector("Code")?.textContent ?? code;
  }
  return new ApiError(response.status, code, message);
}

async function query(service, version, action, parameters = {}) {
  const body = new URLSearchParams({ Action: action, Version: version, ...parameters }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const response = await send(service, "/", { method: "POST", headers, body, repeatable: true });
  return new DOMParser().parseFromString(await response.text(), "text/xml");
}

async function json(service, target, input) {
  const headers = { "content-type": "application/x-amz-json-1.0", "x-amz-target": target };
  const response = await send(service, "/", {
    method: "POST", headers, body: JSON.stringify(input), repeatable: true,
  });
  return response.json();
}

/** All pages of a rest-json list. */
async function pages(service, path, listed, marker = "Marker") {
  const found = [];
  let next = null;
  do {
    const link = new URL(path, location.origin);
    if (next) link.searchParams.set(marker, next);
    const page = await (await send(service, link.pathname + link.search)).json();
    found.push(...(page[listed] ?? []));
    next = page.NextMarker ?? page.NextToken;
  } while (next);
  return found;
}

export const own = {
  get: async (path) => (await send("lambay", path)).json(),
  send: (path, init) => send("lambay", path, init),
  /** JSON lines as they come. */
  async *lines(path, signal) {
    const response = await send("lambay", path, { signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const whole = (rest + value).split("\n");
      rest = whole.pop();
      for (const line of whole) if (line.trim()) yield JSON.parse(line);
    }
  },
};

export const efs = {
  fileSystems: () => pages("elasticfilesystem", "/2015-02-01/file-systems", "FileSystems"),
  mountTargets: (id) => pages("elasticfilesystem", `/2015-02-01/mount-targets?FileSystemId=${id}`, "MountTargets"),
  accessPoints: (id) =>
    pages("elasticfilesystem", `/2015-02-01/access-points?FileSystemId=${id}`, "AccessPoints", "NextToken"),
};

export const lambda = {
  functions: () => pages("lambda", "/2015-03-31/functions/", "Functions"),
  configuration: async (name) =>
    (await send("lambda", `/2015-03-31/functions/${encodeURIComponent(name)}/configuration`)).json(),
  async invoke(name, payload) {
    const began = performance.now();
    const response = await send("lambda", `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`, {
      method: "POST",
      headers: { "x-amz-log-type": "Tail", "content-type": "application/json" },
      body: payload,
    });
    const log = response.headers.get("x-amz-log-result");
    return {
      milliseconds: performance.now() - began,
      error: response.headers.get("x-amz-function-error"),
      payload: await response.text(),
      log: log ? new TextDecoder().decode(Uint8Array.from(atob(log), (c) => c.charCodeAt(0))) : "",
    };
  },
};

const CLOUDWATCH = "GraniteServiceVersion20100801.";

export const cloudwatch = {
  /** `wanted`: [{id, namespace, name, dimensions, stat}]; {id: [[seconds], [values]]} in order of time. */
  async data(wanted, { start, end, period }) {
    const found = Object.fromEntries(wanted.map(({ id }) => [id, [[], []]]));
    let NextToken;
    do {
      const answer = await json("monitoring", `${CLOUDWATCH}GetMetricData`, {
        StartTime: start,
        EndTime: end,
        ScanBy: "TimestampAscending",
        NextToken,
        MetricDataQueries: wanted.map(({ id, namespace, name, dimensions, stat, expression }) =>
          expression
            ? { Id: id, Expression: expression, Period: period }
            : {
                Id: id,
                MetricStat: {
                  Metric: {
                    Namespace: namespace,
                    MetricName: name,
                    Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
                  },
                  Period: period,
                  Stat: stat,
                },
              }),
      });
      for (const { Id, Timestamps = [], Values = [] } of answer.MetricDataResults ?? []) {
        found[Id][0].push(...Timestamps);
        found[Id][1].push(...Values);
      }
      NextToken = answer.NextToken;
    } while (NextToken);
    return found;
  },
  async alarms() {
    const found = { metric: [], composite: [] };
    let NextToken;
    do {
      const page = await json("monitoring", `${CLOUDWATCH}DescribeAlarms`, {
        AlarmTypes: ["MetricAlarm", "CompositeAlarm"], NextToken,
      });
      found.metric.push(...(page.MetricAlarms ?? []));
      found.composite.push(...(page.CompositeAlarms ?? []));
      NextToken = page.NextToken;
    } while (NextToken);
    return found;
  },
  history: async (name) =>
    (await json("monitoring", `${CLOUDWATCH}DescribeAlarmHistory`, { AlarmName: name, MaxRecords: 50 }))
      .AlarmHistoryItems ?? [],
  setActions: (name, enabled) =>
    json("monitoring", `${CLOUDWATCH}${enabled ? "Enable" : "Disable"}AlarmActions`, { AlarmNames: [name] }),
};
