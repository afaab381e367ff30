// The first code in a Node.js sandbox: waits for the function, becomes it, and speaks the Lambda Runtime API.
//
// Behaves as Lambda's own client does towards handlers (Developer Guide, "Define Lambda function handler in
// Node.js"): async functions, callbacks, CommonJS and ES modules, console output as log records.

import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

const TASK_ROOT = "/var/task";
const ROOT = "/2018-06-01/runtime";
const LEVELS = { TRACE: 10, DEBUG: 20, INFO: 30, WARN: 40, ERROR: 50, FATAL: 60 };
const TEXT_FRAME = { TRACE: 0xa55a0007, DEBUG: 0xa55a000b, INFO: 0xa55a000f, WARN: 0xa55a0013, ERROR: 0xa55a0017 };

const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
let requestId = "";

class Fault extends Error {
  constructor(type, message) {
    super(message);
    this.name = type;
  }
}

// Waiting

// What a process does for the first time takes it far longer: a request and an import, while nobody waits for them.
async function warmUp() {
  await import("data:text/javascript,export default null");
  const passing = new http.Agent();
  await call("POST", "/", "{}", {}, passing).catch(() => {});
  passing.destroy();
}

function receive() {
  fs.writeSync(0, "R");
  const parts = [];
  const part = Buffer.alloc(65536);
  for (let size; (size = fs.readSync(0, part, 0, part.length, null)) > 0; ) {
    parts.push(Buffer.from(part.subarray(0, size)));
  }
  if (parts.length === 0) process.exit(0);
  // The next descriptor opened is the lowest free one: standard input again.
  fs.closeSync(0);
  fs.openSync("/dev/null", "r");
  return JSON.parse(Buffer.concat(parts).toString());
}

// Node cannot replace its process; the child does the work and this one passes its end on.
async function execute(commands, environment) {
  const { spawn } = await import("node:child_process");
  const [program, ...rest] = commands[0];
  const child = spawn(program, rest, { cwd: TASK_ROOT, env: environment, stdio: "inherit" });
  child.on("error", (error) => {
    fs.writeSync(1, `${program} cannot be executed: ${error.message}\n`);
    process.exit(1);
  });
  child.on("exit", (status, signal) => (signal ? process.kill(process.pid, signal) : process.exit(status)));
}

async function startExtensions(environment) {
  const directory = "/opt/extensions";
  if (!fs.existsSync(directory)) return;
  const { spawn } = await import("node:child_process");
  for (const name of fs.readdirSync(directory).sort()) {
    const program = path.join(directory, name);
    const child = spawn(program, [], { cwd: "/", env: environment, stdio: "inherit", detached: true });
    child.on("error", (error) => fs.writeSync(1, `${program} cannot be executed: ${error.message}\n`));
    child.unref();
  }
}

// Logs

function record(level, message, error) {
  const threshold = LEVELS[process.env.AWS_LAMBDA_LOG_LEVEL] ?? 0;
  if (LEVELS[level] < threshold) return;
  const json = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
  const timestamp = new Date().toISOString();
  const id = requestId || "undefined";
  let text;
  if (json) {
    const entry = { timestamp, level, requestId: requestId || undefined, message };
    if (error instanceof Error) {
      entry.errorType = error.name;
      entry.errorMessage = error.message;
      entry.stackTrace = (error.stack ?? "").split("\n");
    }
    text = JSON.stringify(entry) + "\n";
  } else {
    text = `${timestamp}\t${id}\t${level}\t${message}\n`;
  }
  const body = Buffer.from(text);
  const head = Buffer.alloc(16);
  head.writeUInt32BE(TEXT_FRAME[level] ?? 0xa55a0003, 0);
  head.writeUInt32BE(body.length, 4);
  head.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8);
  writeAll(Buffer.concat([head, body]));
}

function writeAll(bytes) {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(1, bytes, done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

function patchConsole() {
  const levels = { log: "INFO", info: "INFO", warn: "WARN", error: "ERROR", debug: "DEBUG", trace: "TRACE" };
  for (const [name, level] of Object.entries(levels)) {
    console[name] = (...words) => {
      const error = words.find((word) => word instanceof Error);
      const plain = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON" && words.length === 1 && !error;
      record(level, plain ? words[0] : format(...words), error);
    };
  }
}

// Streamed responses: Developer Guide, "Writing response streaming-enabled Lambda functions"

const STREAMS = Symbol("lambay.streams");
const HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response";

class ResponseStream extends Writable {
  #request = null;
  #begin;
  contentType = "application/octet-stream";
  prelude = null;

  constructor(begin) {
    super({ highWaterMark: 65536 });
    this.#begin = begin;
  }

  setContentType(contentType) {
    this.contentType = contentType;
  }

  #ready() {
    if (this.#request === null) {
      this.#request = this.#begin(this.contentType);
      this.#request.on("error", (error) => this.destroy(error));
      if (this.prelude !== null) this.#request.write(Buffer.concat([Buffer.from(this.prelude), Buffer.alloc(8)]));
    }
    return this.#request;
  }

  _write(chunk, encoding, done) {
    const request = this.#ready();
    if (request.write(chunk)) done();
    else request.once("drain", done);
  }

  _final(done) {
    this.#ready().end();
    done();
  }

  // What went wrong after the first byte is told in the trailers; false where nothing has been sent.
  fail(object) {
    if (this.#request === null || this.writableFinished) return false;
    this.#request.addTrailers({
      "Lambda-Runtime-Function-Error-Type": object.errorType,
      "Lambda-Runtime-Function-Error-Body": Buffer.from(JSON.stringify(object)).toString("base64"),
    });
    this.#request.end();
    return true;
  }
}

globalThis.awslambda = {
  streamifyResponse(handler) {
    handler[STREAMS] = true;
    return handler;
  },
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType(HTTP_RESPONSE);
      stream.prelude = JSON.stringify(prelude ?? {});
      return stream;
    },
  },
};

async function stream(handler, event, headers, route) {
  let answered;
  const whole = new Promise((resolve) => (answered = resolve));
  const response = new ResponseStream((contentType) => {
    const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
    const options = { agent, host, port, method: "POST", path: `${ROOT}${route}/response` };
    options.headers = {
      "Content-Type": contentType,
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      Trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    };
    const request = http.request(options, (answer) => answer.resume().on("end", answered));
    request.on("error", answered);
    return request;
  });
  const ended = new Promise((resolve, reject) => response.on("finish", resolve).on("error", reject));
  ended.catch(() => {});
  try {
    await handler(event, response, makeContext(headers, () => {}));
    if (!response.writableEnded) response.end();
    await ended;
  } catch (error) {
    const object = told(error);
    logError("Invoke Error ", object);
    if (!response.fail(object)) throw error;
  }
  await whole;
}

// The Runtime API

function call(method, route, body = "", headers = {}, through = agent) {
  const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
  return new Promise((resolve, reject) => {
    const payload = Buffer.from(body);
    const options = { agent: through, host, port, method, path: ROOT + route };
    options.headers = { ...headers, "Content-Length": payload.length };
    const request = http.request(options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(parts) }));
    });
    request.on("error", reject);
    request.setTimeout(0);
    request.end(payload);
  });
}

function told(error) {
  if (error instanceof Error) {
    const trace = (error.stack ?? "").split("\n");
    return { errorType: error.name || "Error", errorMessage: error.message, trace };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function logError(kind, object) {
  record("ERROR", `${kind}\t${JSON.stringify({ ...object, stack: object.trace })}`);
}

// The handler

async function load(name) {
  const file = name.lastIndexOf("/") + 1;
  const parts = name.slice(file).split(".");
  if (parts.length < 2) throw new Fault("Runtime.MalformedHandlerName", "Bad handler");
  const base = path.join(TASK_ROOT, name.slice(0, file), parts[0]);
  const found = await importModule(base, name.slice(0, file) + parts[0]);
  let handler = found;
  for (const part of parts.slice(1)) handler = handler?.[part] ?? handler?.default?.[part];
  if (handler === undefined) throw new Fault("Runtime.HandlerNotFound", `${name} is undefined or not exported`);
  if (typeof handler !== "function") throw new Fault("Runtime.HandlerNotFound", `${name} is not a function`);
  return handler;
}

async function importModule(base, name) {
  const there = (file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile();
  const file = [base, `${base}.js`, `${base}.mjs`, `${base}.cjs`].find(there);
  try {
    if (file === undefined) return createRequire(`${TASK_ROOT}/`)(`./${name}`);
    if (file.endsWith(".mjs") || (file.endsWith(".js") && isModule(path.dirname(file)))) {
      return await import(pathToFileURL(file).href);
    }
    return createRequire(`${TASK_ROOT}/`)(file);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new Fault("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`);
    }
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw new Fault("Runtime.ImportModuleError", `Error: ${error.message}`);
    }
    throw error;
  }
}

function isModule(directory) {
  for (let at = directory; at.startsWith(TASK_ROOT); at = path.dirname(at)) {
    const description = path.join(at, "package.json");
    if (fs.existsSync(description)) return JSON.parse(fs.readFileSync(description)).type === "module";
  }
  return false;
}

function makeContext(headers, settle) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const parse = (text) => (text ? JSON.parse(text) : undefined);
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    clientContext: parse(headers["lambda-runtime-client-context"]),
    identity: parse(headers["lambda-runtime-cognito-identity"]),
    getRemainingTimeInMillis: () => deadline - Date.now(),
    succeed: (result) => settle(null, result),
    fail: (error) => settle(error ?? "handled"),
    done: (error, result) => settle(error, result),
  };
}

function run(handler, event, headers) {
  return new Promise((resolve, reject) => {
    let said;
    // With nothing left to do the callback's words count, or, if it was never called, null.
    const idle = () => (said ? finish(...said) : finish(null, null));
    const finish = (error, result) => {
      process.off("beforeExit", idle);
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    };
    const context = makeContext(headers, finish);
    const callback = (error, result) => {
      if (context.callbackWaitsForEmptyEventLoop) said ??= [error, result];
      else finish(error, result);
    };
    const answer = handler(event, context, callback);
    if (typeof answer?.then === "function") answer.then((result) => finish(null, result), reject);
    else process.on("beforeExit", idle);
  });
}

async function serveStream(handler, next, route) {
  try {
    await stream(handler, JSON.parse(next.body.toString()), next.headers, route);
  } catch (error) {
    const object = told(error);
    await call("POST", `${route}/error`, JSON.stringify(object), {
      "Content-Type": "application/json",
      "Lambda-Runtime-Function-Error-Type": object.errorType,
    });
  }
}

async function serve(handler) {
  for (;;) {
    const next = await call("GET", "/invocation/next");
    requestId = next.headers["lambda-runtime-aws-request-id"];
    process.env._X_AMZN_TRACE_ID = next.headers["lambda-runtime-trace-id"] ?? "";
    const route = `/invocation/${requestId}`;
    if (handler[STREAMS]) {
      await serveStream(handler, next, route);
      continue;
    }
    try {
      const result = await run(handler, JSON.parse(next.body.toString()), next.headers);
      await call("POST", `${route}/response`, JSON.stringify(result ?? null), { "Content-Type": "application/json" });
    } catch (error) {
      const object = told(error);
      logError("Invoke Error ", object);
      await call("POST", `${route}/error`, JSON.stringify(object), {
        "Content-Type": "application/json",
        "Lambda-Runtime-Function-Error-Type": object.errorType,
      });
    }
  }
}

async function fatal(kind, error) {
  const object = { ...told(error), errorType: kind ?? told(error).errorType };
  logError(requestId ? "Invoke Error " : "Uncaught Exception ", object);
  const route = requestId ? `/invocation/${requestId}/error` : "/init/error";
  await call("POST", route, JSON.stringify(object), { "Lambda-Runtime-Function-Error-Type": object.errorType });
  process.exit(requestId ? 128 : 1);
}

async function main() {
  if (process.argv[2] !== "run") {
    await warmUp();
    const received = receive();
    await startExtensions(received.environment);
    if (received.commands !== null) return execute(received.commands, received.environment);
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, received.environment);
  }
  process.chdir(TASK_ROOT);
  patchConsole();
  process.on("uncaughtException", (error) => fatal(null, error));
  process.on("unhandledRejection", (error) => fatal("Runtime.UnhandledPromiseRejection", error));
  let handler;
  try {
    handler = await load(process.env._HANDLER);
  } catch (error) {
    return fatal(null, error);
  }
  return serve(handler);
}

main();
