// The Worker's entry: hands a request to the gate's checks in WebAssembly and does the I/O that they ask for.
//
// The hot path is `fetch` down to `answer`: no promise, no object and no conversion but those that the runtime asks for. The
// generated code of index.js instantiates the module anew after a panic; the new instance says `UNREADY`, and all that was
// known of the old one (`shared`) is taken anew.
import app, { Hub } from "./index.js";
import { connections, isLasting, watch } from "./connections.mjs";
import policy from "./policy.bin";
import { POSTURE, refuse } from "./refuse.mjs";
import { cookies, exchange, originUrl, session, signOut } from "./session.mjs";
import { forget, forward, given, own } from "./upstream.mjs";

export { Hub };

const wasm = app.prototype;

// The verdicts of `check` in gate.rs.
const [UNREADY, ALLOW, ANONYMOUS, REFUSE, ASK_HUB, ASK_ORIGIN, RENEW, RESERVED] = [0, 1, 2, 3, 4, 5, 6, 7];
const [TOO_LARGE, SESSION, SIGN_OUT, METADATA] = [8, 9, 10, 11];
const [NOBODY_LATELY, NOBODY, HUB, ORIGIN] = [0, 1, 2, 3];

const PULL_MS_MIN = 200; // between pulls in the background
const PULL_MS_MAX = 1_500; // deadline of one pull, and how long a request waits for it
const LATELY_MS = 500; // a gate that was idle for longer asks its hub before it lets somebody pass
const RETRY_MS = 1_000; // after a pull that failed, nobody waits for another one
const PUSH_BYTES_MAX = 32 * 1024 * 1024; // as in hub.rs
const BINDINGS = [
  "ISSUER", "AUDIENCE", "ORIGIN_URL", "FEED_KEYS", "TRUSTED_JWKS", "CLOCK_SKEW_MS_MAX", "ACCESS_COOKIE", "REFRESH_COOKIE",
  "ASSERTION_KEYS",
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

let shared = null; // { memory, places, input, output, identity, routes, hasFeed } of the instance in use
let pulling = null; // the pull of the hub that is under way
let pulledAt = 0;
let heardAt = 0; // when the last pull began that succeeded
let failedAt = 0; // when the last one failed; 0 if it succeeded
let originAsked = { at: 0, done: null }; // when the origin was asked last for the sake of open connections

class NotConfigured extends Error {}

function configure(env) {
  const bindings = {};
  for (const name of BINDINGS) bindings[name] = env[name] == null ? null : String(env[name]);
  try {
    wasm.configure(JSON.stringify(bindings), new Uint8Array(policy));
  } catch (error) {
    throw new NotConfigured(String(error?.message ?? error));
  }
  const addresses = JSON.parse(env.UPSTREAMS || "{}");
  const routes = JSON.parse(wasm.routes()).map((route) => ({ ...route, address: addresses[route.upstream] ?? route.address }));
  shared = { memory: wasm.linear_memory(), places: wasm.buffers(), routes, hasFeed: wasm.position() !== "" };
  view();
  forget();
}

// The views of the buffers; growing memory detaches those of before.
function view() {
  const { memory, places: [input, inputLength, output, outputLength, identity] } = shared;
  shared.input = new Uint8Array(memory.buffer, input, inputLength);
  shared.output = new Uint8Array(memory.buffer, output, outputLength);
  shared.identity = new Float64Array(memory.buffer, identity, 1);
}

// Verdict (8 bits), route (8), length of the output (16).
function check(req, env, asked, now, renewed) {
  if (shared === null) configure(env);
  const length = put(req, renewed);
  if (length === null) return TOO_LARGE;
  const said = wasm.check(length, asked, now);
  if ((said & 0xff) !== UNREADY) return said;
  shared = null;
  configure(env);
  return check(req, env, asked, now, renewed);
}

// Puts what counts of a request into the input; its length, null if it does not fit.
function put(req, renewed) {
  if (shared.input.byteLength === 0) view();
  const { method, headers } = req;
  let text = `${method}\n${req.url}\n${headers.get("authorization") ?? ""}\n${headers.get("cookie") ?? ""}`;
  // Safe methods need no proof of where they come from.
  if (method !== "GET" && method !== "HEAD") text += `\n${headers.get("origin") ?? ""}\n${headers.get("sec-fetch-site") ?? ""}`;
  else if (renewed) text += "\n\n";
  if (renewed) text += `\n${renewed}`;
  const { read, written } = encoder.encodeInto(text, shared.input);
  return read < text.length ? null : written;
}

function output(said) {
  if (shared.output.byteLength === 0) view();
  return decoder.decode(shared.output.subarray(0, said >>> 16));
}

export default {
  fetch(req, env, ctx) {
    try {
      const now = Date.now();
      const asked = now - heardAt < LATELY_MS || failedAt !== 0 ? NOBODY : NOBODY_LATELY;
      const said = check(req, env, asked, now);
      const background = refresh(env, PULL_MS_MIN, now);
      if (background !== null) ctx.waitUntil(background);
      return answer(said, req, env, ctx, asked);
    } catch (error) {
      return failed(error);
    }
  },
};

// What the verdict comes to; a renewal brings `Set-Cookie` lines for the answer.
function answer(said, req, env, ctx, asked, renewal) {
  switch (said & 0xff) {
    case ALLOW:
    case ANONYMOUS: return pass(said, req, env, ctx, renewal);
    case REFUSE: return refuse(output(said).split("\n"), renewal?.lines);
    case ASK_HUB: return again(req, env, ctx, HUB, waitForHub(env, ctx), renewal);
    case ASK_ORIGIN: return again(req, env, ctx, ORIGIN, pullFrom(env, "origin"), renewal);
    case RENEW: return renew(req, env, ctx, asked, output(said));
    case RESERVED: return reserved(req, env);
    case SESSION: return session(req, env, output(said).split("\n"), renewal?.lines);
    case SIGN_OUT: return signOut(env, output(said).split("\n"));
    case METADATA: return new Response(output(said), { headers: { "content-type": "application/json", ...POSTURE } });
    default: return refuse(["431", "too_large", "", "", "the URL and the headers that count are too large together"]);
  }
}

function pass(said, req, env, ctx, renewal) {
  const route = (said >>> 8) & 0xff;
  const { address } = shared.routes[route];
  const lines = renewal?.lines;
  if (address !== "self") {
    const holds = (said & 0xff) === ALLOW ? (answer) => hold(answer, req, env, ctx, route, renewal?.token) : null;
    return forward(req, address, output(said), lines, holds);
  }
  if (shared.identity.byteLength === 0) view();
  const number = shared.identity[0];
  return (lines ? undefined : given(number)) ?? own(number, output(said), lines);
}

async function again(req, env, ctx, asked, waited, renewal) {
  try {
    await waited.catch(() => {});
    return await answer(check(req, env, asked, Date.now(), renewal?.token), req, env, ctx, asked, renewal);
  } catch (error) {
    return failed(error);
  }
}

function failed(error) {
  console.error(JSON.stringify({ event: "gate_failed", reason: String(error?.message ?? error) }));
  const detail = error instanceof NotConfigured ? "the gate is not configured; its log says why" : "the gate failed";
  return refuse(["503", "gate", "", "", detail]);
}

// --- the feed ---

const hubName = (env) => env.HUB_NAME || "local";
const hub = (env) => env.HUB.get(env.HUB.idFromName(hubName(env)));

async function pullFrom(env, source) {
  const query = wasm.position();
  if (query === "") return;
  const init = { signal: AbortSignal.timeout(PULL_MS_MAX) };
  const answer = source === "hub"
    ? await hub(env).fetch(`http://hub/sync?${query}`, init)
    : await fetch(`${originUrl(env)}/feed/delta?${query}`, init);
  const bytes = await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`the ${source} answered ${answer.status}`);
  if (!wasm.accept(new Uint8Array(bytes), Date.now())) throw new Error(`the frames of the ${source} were refused`);
}

// One pull of the hub at a time; one that takes longer than its deadline is given up, since the request that began it may
// have been cancelled together with it.
function refresh(env, ms, now) {
  if (!shared.hasFeed) return null;
  const age = now - pulledAt;
  if (pulling !== null && age < PULL_MS_MAX) return pulling;
  if (age < ms && age >= 0) return null;
  pulledAt = now;
  const mine = pullFrom(env, "hub").then(() => { [heardAt, failedAt] = [now, 0]; }, (error) => {
    failedAt = Date.now();
    console.warn(JSON.stringify({ event: "gate_pull_failed", reason: String(error?.message ?? error) }));
  }).finally(() => { if (pulling === mine) pulling = null; });
  pulling = mine;
  return mine;
}

async function waitForHub(env, ctx) {
  if (Date.now() - failedAt < RETRY_MS) return;
  const pull = refresh(env, 0, Date.now());
  if (pull !== null) await inTime(pull, ctx);
}

// Another request may have begun the pull, and been cancelled together with it.
async function inTime(pull, ctx) {
  ctx.waitUntil(pull);
  await Promise.race([pull, new Promise((done) => setTimeout(done, PULL_MS_MAX))]);
}

// --- connections that outlive their request ---

// The answer to a request in a session; one that lasts goes on only as long as a new request would pass.
function hold(answer, req, env, ctx, route, renewed) {
  if (!isLasting(answer)) return answer;
  const token = wasm.presented(put(req, renewed) ?? 0);
  return watch(answer, ctx, shared.routes[route].staleness_ms_max, (ms) => standing(token, route, env, ctx, ms));
}

// The status that a request with this token would get; what the hub and the origin said within `ms` counts.
async function standing(token, route, env, ctx, ms) {
  const pull = shared === null ? null : refresh(env, ms, Date.now());
  if (pull !== null) await inTime(pull, ctx);
  const status = wasm.standing(token, route, false, Date.now());
  if (status !== 1) return status;
  const now = Date.now();
  if (now - originAsked.at >= ms) originAsked = { at: now, done: pullFrom(env, "origin").catch(() => {}) };
  await inTime(originAsked.done, ctx);
  return wasm.standing(token, route, true, Date.now());
}

// --- renewal of a browser's session, in line ---

async function renew(req, env, ctx, asked, token) {
  try {
    const tokens = await exchange(req, env, token);
    if (tokens === null) return refuse(wasm.session_over().split("\n"), cookies());
    const renewal = { token: tokens.access_token, lines: cookies(tokens) };
    return await answer(check(req, env, asked, Date.now(), renewal.token), req, env, ctx, asked, renewal);
  } catch (error) {
    console.warn(JSON.stringify({ event: "gate_renewal_failed", reason: String(error?.message ?? error) }));
    return refuse(["503", "renewal", "", "", "the session cannot be renewed now; try again"]);
  }
}

// --- the gate's own paths ---

async function reserved(req, env) {
  try {
    const url = new URL(req.url);
    const place = /^\/\.portcullis\/hubs\/([a-z0-9-]{1,64})\/frames$/.exec(url.pathname);
    // Only the hub of this gate: a name made up by someone else must not bring an object to life.
    if (place && place[1] === hubName(env)) return await hubAnswer(req, env, url.search);
    if (url.pathname === "/.portcullis/status" && req.method === "GET") {
      await refresh(env, PULL_MS_MIN, Date.now());
      const status = { ...JSON.parse(wasm.status(Date.now())), connections: connections() };
      return new Response(JSON.stringify(status), { headers: { "content-type": "application/json", ...POSTURE } });
    }
    return refuse(["404", "no_route", "", "", "there is nothing here"]);
  } catch (error) {
    return failed(error);
  }
}

async function hubAnswer(req, env, search) {
  // Signed frames of hashed keys are nobody's secret; an origin whose store lost floors gets them back from here.
  if (req.method === "GET") return hub(env).fetch(`http://hub/sync${search}`);
  if (req.method !== "POST") return refuse(["405", "method", "", "GET, POST", "frames are taken in by POST and handed out by GET"]);
  const length = Number(req.headers.get("content-length") ?? NaN);
  if (!(length <= PUSH_BYTES_MAX)) return refuse(["413", "too_large", "", "", `frames may have ${PUSH_BYTES_MAX} bytes, with Content-Length`]);
  return hub(env).fetch(req);
}
