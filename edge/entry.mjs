// The Worker's entry: hands a request to the gate's checks in WebAssembly and does the I/O that they ask for.
//
// The hot path is `fetch` down to `answer`: no promise, no object and no conversion but those that the runtime asks for. The
// generated code of index.js instantiates the module anew after a panic; the new instance says `UNREADY`, and all that was
// known of the old one (`shared`) is taken anew.
import app from "./index.js";
import { connections, isLasting, watch } from "./connections.mjs";
import policy from "./policy.bin";
import { consult, heard, hub, hubName, isIdle, refresh, restart } from "./feed.mjs";
import { Hub } from "./hub.mjs";
import { POSTURE, redirect, refuse } from "./refuse.mjs";
import { cookies, renewal, session, signOut } from "./session.mjs";
import { configureCache, forward, forwardToPool, mayRepeat, own } from "./upstream.mjs";

export { Hub };

const wasm = app.prototype;

// The verdicts of `check` in gate.rs.
const [UNREADY, ALLOW, ANONYMOUS, REFUSE, ASK_HUB, ASK_ORIGIN, RENEW, RESERVED] = [0, 1, 2, 3, 4, 5, 6, 7];
const [TOO_LARGE, SESSION, SIGN_OUT, METADATA] = [8, 9, 10, 11];
// What `check` is told of those who were asked.
const [IDLE, HUB, ORIGIN] = [1, 2, 8];
const [IN_VAIN, ANSWERED] = [1, 2];

const STANDING_ASK_ORIGIN = 1; // as `standing` in gate.rs says it

const PUSH_BYTES_MAX = 32 * 1024 * 1024; // as in hub.rs
const BINDINGS = [
  "ISSUER", "AUDIENCE", "ORIGIN_URL", "FEED_KEYS", "TRUSTED_JWKS", "CLOCK_SKEW_MS_MAX", "ACCESS_COOKIE", "REFRESH_COOKIE",
  "ASSERTION_KEYS", "UPSTREAMS",
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

let shared = null; // { memory, places, input, output, numbers, routes } of the instance in use
const [UNTIL, CHANGES] = [0, 1]; // of the numbers

// Requests that were allowed and may be allowed again without being judged: when all of them that counts is the same, while the
// clock is within `from` and `until` and nothing changed in the gate. Only such as the gate said so of.
const KEPT_MAX = 4_096;
const KEPT_CHARS_MAX = 4_096; // of a request: so all take some 16 MiB at most, and as much for what is told of them
const kept = new Map(); // { route, values, answer, authorization, cookie, from, until, changes }
const TAIL = 32; // characters of a token's signature, which few other tokens have; the whole of it is compared in the end
let recalls = 0;

class NotConfigured extends Error {}

function configure(env) {
  kept.clear();
  recalls = 0;
  const bindings = {};
  for (const name of BINDINGS) bindings[name] = env[name] == null ? null : String(env[name]);
  try {
    configureCache(env.RUNTIME_CACHE ?? null);
    wasm.configure(JSON.stringify(bindings), new Uint8Array(policy));
  } catch (error) {
    throw new NotConfigured(String(error?.message ?? error));
  }
  shared = { memory: wasm.linear_memory(), places: wasm.buffers(), routes: JSON.parse(wasm.routes()) };
  view();
  restart(() => { shared.routes = JSON.parse(wasm.routes()); });
}

// The views of the buffers; growing memory detaches those of before.
function view() {
  const { memory, places: [input, inputLength, output, outputLength, numbers] } = shared;
  shared.input = new Uint8Array(memory.buffer, input, inputLength);
  shared.output = new Uint8Array(memory.buffer, output, outputLength);
  shared.numbers = new Float64Array(memory.buffer, numbers, 2);
}

// Verdict (8 bits), route (8), length of the output (16); `text` as of `worded`.
function check(text, env, asked, now) {
  if (shared === null) configure(env);
  const length = put(text);
  if (length === null) return TOO_LARGE;
  const said = wasm.check(length, asked, now);
  if ((said & 0xff) !== UNREADY) return said;
  shared = null;
  configure(env);
  return check(text, env, asked, now);
}

// Puts what counts of a request into the input; its length, null if it does not fit.
function put(text) {
  if (shared.input.byteLength === 0) view();
  const { read, written } = encoder.encodeInto(text, shared.input);
  return read < text.length ? null : written;
}

// All of a request that counts, and the access token of its renewal.
function worded(req, renewed) {
  const { headers } = req;
  return wordedOf(req, headers.get("authorization"), headers.get("cookie"), renewed);
}

function wordedOf({ method, url, headers }, authorization, cookie, renewed) {
  let text = `${method}\n${url}\n${authorization ?? ""}\n${cookie ?? ""}`;
  // Safe methods need no proof of where they come from, unless a browser lets any page ask for what they open.
  if ((method !== "GET" && method !== "HEAD") || isHandshake(headers, cookie)) text += `\n${headers.get("origin") ?? ""}\n${headers.get("sec-fetch-site") ?? ""}`;
  else if (renewed) text += "\n\n";
  if (renewed) text += `\n${renewed}`;
  return text;
}

// Whether a request may be a WebSocket's first one, with a cookie.
const isHandshake = (headers, cookie) => cookie !== null && headers.get("upgrade") !== null;

function output(said) {
  if (shared.output.byteLength === 0) view();
  return decoder.decode(shared.output.subarray(0, said >>> 16));
}

export default {
  fetch(req, env, ctx) {
    try {
      const now = Date.now();
      const asked = isIdle(now) ? IDLE : 0;
      const { method, url, headers } = req;
      const authorization = headers.get("authorization");
      const cookie = headers.get("cookie");
      const key = `${url}\n${authorization === null ? "" : authorization.slice(-TAIL)}\n${cookie ?? ""}`;
      const mayRecall = asked === 0 && method === "GET" && !isHandshake(headers, cookie);
      const allowed = mayRecall ? recall(key, authorization, cookie, now) : undefined;
      const answered = allowed ? pass(allowed, req, env, ctx) : judge(key, authorization, cookie, req, env, ctx, asked, now);
      // Afterwards: who asks the hub for an answer has it asked for the background, too.
      const background = refresh(env, now);
      if (background !== null) ctx.waitUntil(background);
      return answered;
    } catch (error) {
      return failed(error);
    }
  },
};

// What the gate allowed this request lately, if that still counts.
function recall(key, authorization, cookie, now) {
  const allowed = kept.get(key);
  if (allowed === undefined || allowed.authorization !== authorization || allowed.cookie !== cookie) return undefined;
  // Numbers of a memory that has grown are undefined, and so like none.
  if (now < allowed.from || now >= allowed.until || shared.numbers[CHANGES] !== allowed.changes) return undefined;
  recalls += 1;
  return allowed;
}

// Judges a request that just came.
function judge(key, authorization, cookie, req, env, ctx, asked, now) {
  const text = wordedOf(req, authorization, cookie);
  const said = check(text, env, asked, now);
  const { numbers } = shared;
  if ((said & 0xff) !== ALLOW || !(numbers[UNTIL] > now) || text.length > KEPT_CHARS_MAX) return answer(said, req, env, ctx, asked);
  if (kept.size >= KEPT_MAX) kept.clear();
  const allowed = allowance(said, authorization, cookie, now, numbers[UNTIL], numbers[CHANGES]);
  kept.set(key, allowed);
  return pass(allowed, req, env, ctx);
}

// What belongs to a request that passes.
const allowance = (said, authorization, cookie, from, until, changes) => ({
  route: shared.routes[(said >>> 8) & 0xff],
  isOfSession: (said & 0xff) === ALLOW,
  values: output(said).split("\n"),
  answer: null, // the gate's own, once it was given
  authorization, cookie, from, until, changes,
});

// What the verdict comes to; a renewal brings `Set-Cookie` lines for the answer.
function answer(said, req, env, ctx, asked, renewed) {
  switch (said & 0xff) {
    case ALLOW:
    case ANONYMOUS: return pass(allowance(said, req.headers.get("authorization")), req, env, ctx, renewed);
    case REFUSE: return refused(req, output(said).split("\n"), renewed?.lines);
    case ASK_HUB: return again(req, env, ctx, asked, HUB, consult("hub", env, ctx), renewed);
    case ASK_ORIGIN: return again(req, env, ctx, asked, ORIGIN, consult("origin", env, ctx), renewed);
    case RENEW: return renew(req, env, ctx, asked, output(said).split("\n"));
    case RESERVED: return reserved(req, env);
    case SESSION: return session(req, env, output(said).split("\n"), renewed?.lines);
    case SIGN_OUT: return signOut(env, output(said).split("\n"));
    case METADATA: return new Response(output(said), { headers: { "content-type": "application/json", ...POSTURE } });
    default: return refuse(["431", "too_large", "", "", "the URL and the headers that count are too large together"]);
  }
}

// A browser that wants a page is sent to sign in where the route says so.
function refused(req, said, lines) {
  const place = said[5];
  if (place !== "" && wasm.is_navigation(req.method, req.headers.get("sec-fetch-mode") ?? "")) return redirect(place, req.url, lines);
  return refuse(said, lines);
}

function pass(allowed, req, env, ctx, renewed) {
  const { route: { address, upstream, staleness_ms_max }, isOfSession, values } = allowed;
  const lines = renewed?.lines;
  if (address === "self") return lines ? own(values, lines) : (allowed.answer ??= own(values));
  const holds = isOfSession ? (answer) => hold(answer, req, env, ctx, staleness_ms_max, renewed) : null;
  return address === null ? forwardToPool(req, upstream, allowed, lines, holds) : forward(req, address, allowed, lines, holds);
}

// Judges anew once a source was asked.
async function again(req, env, ctx, before, source, consulted, renewed) {
  try {
    const asked = before + source * ((await consulted) ? ANSWERED : IN_VAIN);
    return await answer(check(worded(req, renewed?.token), env, asked, Date.now()), req, env, ctx, asked, renewed);
  } catch (error) {
    return failed(error);
  }
}

function failed(error) {
  console.error(JSON.stringify({ event: "gate_failed", reason: String(error?.message ?? error) }));
  const detail = error instanceof NotConfigured ? "the gate is not configured; its log says why" : "the gate failed";
  return refuse(["503", "gate", "", "", detail]);
}

// A guard behind this gate may have heard of a revocation first. The origin knows all that it knows, and then the request is
// refused here, or its session renewed.
async function judgeAnew(refused, req, env, ctx) {
  const asked = ORIGIN * ((await consult("origin", env, ctx)) ? ANSWERED : IN_VAIN);
  const said = check(worded(req), env, asked, Date.now());
  if ((said & 0xff) === ALLOW) return refused;
  ctx.waitUntil(refused.body?.cancel());
  return answer(said, req, env, ctx, asked);
}

// --- connections that outlive their request ---

// The answer to a request in a session; one that lasts goes on only as long as a new request would pass.
function hold(answer, req, env, ctx, staleness_ms_max, renewed) {
  if (answer.status === 401 && renewed === undefined && mayRepeat(req) && answer.headers.has("portcullis-refused")) {
    return judgeAnew(answer, req, env, ctx);
  }
  if (!isLasting(answer)) return answer;
  const token = wasm.presented(put(worded(req, renewed?.token)) ?? 0);
  const { method, url } = req;
  return watch(answer, ctx, staleness_ms_max, (ms) => standing([token, method, url], env, ctx, ms));
}

// The status that a request with this token would get; what the hub and the origin said within `ms` counts.
async function standing(asking, env, ctx, ms) {
  let asked = HUB * ((await heard("hub", ms, env, ctx)) ? ANSWERED : IN_VAIN);
  const status = wasm.standing(...asking, asked, Date.now());
  if (status !== STANDING_ASK_ORIGIN) return status;
  asked += ORIGIN * ((await heard("origin", ms, env, ctx)) ? ANSWERED : IN_VAIN);
  return wasm.standing(...asking, asked, Date.now());
}

// --- renewal of a browser's session, in line ---

async function renew(req, env, ctx, asked, [token, signIn]) {
  const judge = ({ tokens }) => (tokens === null ? REFUSE : check(worded(req, tokens.access_token), env, asked, Date.now()));
  try {
    let found = await renewal(req, env, ctx, token);
    let said = judge(found);
    // What another request was given may have been revoked since.
    if (found.isJoined && found.tokens !== null && (said & 0xff) === REFUSE && output(said).startsWith("401")) {
      found = await renewal(req, env, ctx, token, found);
      said = judge(found);
    }
    if (found.tokens === null) return refused(req, wasm.session_over(signIn).split("\n"), cookies());
    const renewed = { token: found.tokens.access_token, lines: cookies(found.tokens) };
    return await answer(said, req, env, ctx, asked, renewed);
  } catch (error) {
    console.warn(JSON.stringify({ event: "gate_renewal_failed", reason: String(error?.message ?? error) }));
    return refuse(["503", "renewal", "", "", "the session cannot be renewed now; try again"]);
  }
}

// --- the gate's own paths ---

async function reserved(req, env) {
  try {
    const url = new URL(req.url);
    // Only the hub of this gate: a name made up by someone else must not bring an object to life.
    if (url.pathname === `/.portcullis/hubs/${hubName(env)}/frames`) return await hubAnswer(req, env, url.search);
    if (url.pathname === "/.portcullis/status" && req.method === "GET") {
      await refresh(env, Date.now());
      return new Response(JSON.stringify(status()), { headers: { "content-type": "application/json", ...POSTURE } });
    }
    return refuse(["404", "no_route", "", "", "there is nothing here"]);
  } catch (error) {
    return failed(error);
  }
}

function status() {
  const known = JSON.parse(wasm.status(Date.now()));
  if (known.verdicts) known.verdicts.allowed = (known.verdicts.allowed ?? 0) + recalls;
  return { ...known, allowed_again: recalls, connections: connections() };
}

async function hubAnswer(req, env, search) {
  // Signed frames of hashed keys are nobody's secret; an origin whose store lost floors gets them back from here.
  if (req.method === "GET") return hub(env).fetch(`http://hub/sync${search}`, { headers: req.headers });
  if (req.method !== "POST") return refuse(["405", "method", "", "GET, POST", "frames are taken in by POST and handed out by GET"]);
  const length = Number(req.headers.get("content-length") ?? NaN);
  if (!(length <= PUSH_BYTES_MAX)) return refuse(["413", "too_large", "", "", `frames may have ${PUSH_BYTES_MAX} bytes, with Content-Length`]);
  return hub(env).fetch(req);
}
