// Forwards what the gate let pass: the URL that was judged, with the gate's own word on who it is from.

import app from "./index.js";
import { refuse } from "./refuse.mjs";

const wasm = app.prototype;

// Of `shared`, where the guard has them from too.
const [IDENTITY, [ASSERTION], [PREFIX], OVERRIDES] = wasm.header_names().split("\n").map((line) => line.split(" "));

// A request goes to another node for so many ms, while its assertion counts; some of that is left for clocks and the way there.
const ASKED_MAX = wasm.assertion_ms() - 5_000;

// Whether an `Authorization` is a bearer token, or has one among lines that were joined. Most show it by their first word.
const isBearer = (text) => /^bearer(?:[\s,]|$)/i.test(text) || (text.includes(",") && /,\s*bearer(?:[\s,]|$)/i.test(text));

// Whether the runtime may have a cache of its own, for which a request needs a mode. Elsewhere the header that the mode stands
// for says all, and costs less.
let hasCache = true;

/** Takes in the binding RUNTIME_CACHE: "none", or null for a runtime that may have a cache. */
export function configureCache(binding) {
  if (binding !== null && binding !== "none") throw new Error(`RUNTIME_CACHE: ${JSON.stringify(binding)} is not "none"; leave it out where the runtime may have a cache`);
  hasCache = binding === null;
}

/**
 * The answer of the application at `address`. `allowed` has the request's `authorization`, and as `values` subject, session,
 * tenant, roles, version, assertion and the cookies that are left, as far as there are any; `lines` are `Set-Cookie` lines to
 * add; `holds` gets the answer to a request in a session, and gives the one to pass on, or a promise of it.
 */
export function forward(req, address, allowed, lines, holds) {
  return ask(fetch(prepare(req, address, allowed)), mayBeKept(allowed), lines, holds);
}

/** As `forward`, to a node of the pool of an upstream. */
export function forwardToPool(req, upstream, allowed, lines, holds) {
  const request = prepare(req, "http://node.invalid", allowed);
  return ask(askPool(upstream, request, allowed.values), mayBeKept(allowed), lines, holds);
}

// RFC 9110 §9.2.2; a body can be read only once.
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
/** Whether a request may be sent a second time. */
export const mayRepeat = ({ method, body }) => body === null && IDEMPOTENT.has(method);

async function askPool(upstream, request, values) {
  const session = values[1];
  const repeats = mayRepeat(request);
  const rest = pathOf(request.url);
  const isAsserted = values[IDENTITY.length] !== "";
  const begun = Date.now();
  let failure = new Error("no node answers");
  for (let tried = 0; ;) {
    const [node, address, ms] = wasm.choose_node(upstream, session, repeats, tried >>> 0, Date.now()).split(" ");
    if (address === undefined) throw failure;
    tried |= 1 << node;
    try {
      const answer = await askNode(address + rest, request, Number(ms));
      wasm.settle_node(upstream, session, node, true, Date.now());
      return answer;
    } catch (error) {
      if (error instanceof BrokenOff) throw error;
      wasm.settle_node(upstream, session, node, false, Date.now());
      if (!repeats || (isAsserted && Date.now() - begun > ASKED_MAX)) throw error;
      failure = error;
    }
  }
}

class TooLate extends Error {}
class BrokenOff extends Error {}

// Only pools have a deadline, and those that ask for one: controller, timer and signal cost every request some 3 µs (workerd, a
// core of an EPYC), and another node is what makes them worth it. A timer for all requests of the isolate would be cheaper, but
// the runtime lets no request act for another one. It is taken off once the head of the answer is there, which cannot be done
// with `AbortSignal.timeout`: what is streamed may last.
async function askNode(url, request, ms) {
  const late = new AbortController();
  let timer = null;
  const begin = () => { timer = setTimeout(() => late.abort(new TooLate()), ms); };
  let [isOver, isBrokenOff] = [false, false];
  let sent = request;
  if (request.body === null || isBare(request)) {
    begin();
  } else {
    const { method, headers } = request;
    const body = sentWhole(request.body, headers, () => { if (!isOver) begin(); }, () => { isBrokenOff = true; });
    sent = { method, headers, body };
  }
  try {
    return await fetch(requestTo(url, sent, request.cache, late.signal));
  } catch (error) {
    if (isBrokenOff) throw new BrokenOff();
    throw late.signal.aborted ? late.signal.reason : error;
  } finally {
    isOver = true;
    clearTimeout(timer);
  }
}

const PIECE_BYTES = 64 * 1024; // of a body

// The same body; `then` is called when all of it was taken, `broken` when the client breaks off. A client that is slow to send
// it, or breaks off, is no failure of the node.
function sentWhole(body, headers, then, broken) {
  const length = headers.get("content-length");
  const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(Number(length));
  // Not `pipeTo`, which fails alike for either side.
  pass(body.getReader({ mode: "byob" }), writable.getWriter(), broken).then(then, () => {});
  return readable;
}

async function pass(reader, writer, broken) {
  for (let room = new Uint8Array(PIECE_BYTES); ;) {
    let read;
    try {
      read = await reader.read(room);
    } catch (error) {
      broken();
      writer.abort(error).catch(() => {});
      throw error;
    }
    if (read.done) return await writer.close();
    // What goes wrong with this, `fetch` tells.
    await writer.write(read.value);
    room = new Uint8Array(read.value.buffer);
  }
}

// Path and query, as they stand in the URL.
const pathOf = (url) => url.slice(url.indexOf("/", url.indexOf("://") + 3));

function prepare(req, address, { values, authorization }) {
  const { url } = req;
  const rest = pathOf(url);
  // BRR-09: what one user is told comes out of no cache between here and the application, and goes into none.
  const isPrivate = isOfSession(values);
  const request = requestTo(address + rest, req, isPrivate && hasCache ? "no-store" : undefined);
  const { headers } = request;
  if (isPrivate) headers.set("cache-control", "no-cache");
  strip(headers);
  for (let i = 0; i < IDENTITY.length; i++) if (values[i] !== "") headers.set(IDENTITY[i], values[i]);
  // The credential was the gate's business; the application gets the verdict instead.
  if (authorization !== null && isBearer(authorization)) headers.delete("authorization");
  if (values[IDENTITY.length] !== "") headers.set(ASSERTION, values[IDENTITY.length]);
  const cookies = values[IDENTITY.length + 1];
  if (cookies !== "") headers.set("cookie", cookies);
  else headers.delete("cookie");
  const split = url.indexOf("://");
  headers.set("x-forwarded-proto", url.slice(0, split));
  headers.set("x-forwarded-host", url.slice(split + 3, url.length - rest.length));
  return request;
}

const isOfSession = (values) => values[0] !== "";

// All at once: a request that is made of another one is copied whole, and again by options of `fetch`.
function requestTo(url, request, cache, signal) {
  const { method, headers, body } = request;
  // A body of GET, also one of no bytes, goes only with a copy (RFC 9110 §9.3.1 has no meaning for it, and allows it).
  if (body !== null && isBare(request)) return new Request(new Request(url, request), { redirect: "manual", cache, signal });
  return new Request(url, { method, headers, body, redirect: "manual", cache, signal });
}

// Whether the method is one that has no body as a rule.
const isBare = ({ method }) => method === "GET" || method === "HEAD";

// Without a word of the application, a cache that does not know of cookies would take an answer for everyone's. What answers
// Authorization is kept by none that others share (RFC 9111 §3.5).
const mayBeKept = ({ values, authorization }) => isOfSession(values) && authorization === null;

function kept(answer) {
  const own = new Response(answer.body, answer);
  own.headers.set("cache-control", "private");
  return own;
}

function ask(asked, mayBeKept, lines, holds) {
  const taken = (answer) => {
    try {
      if (mayBeKept && answer.webSocket === null && !answer.headers.has("cache-control")) answer = kept(answer);
      const held = holds === null ? answer : holds(answer);
      return held instanceof Response ? held : held.catch(none);
    } catch (error) {
      return none(error);
    }
  };
  const answer = asked.then(taken, none);
  return lines ? answer.then((answer) => renewed(answer, lines)) : answer;
}

function none(error) {
  const none = "the application does not answer";
  if (error instanceof TooLate) return refuse(["504", "upstream", "", "", `${none} in time`]);
  if (error instanceof BrokenOff) return refuse(["400", "body", "", "", "the body of the request broke off"]);
  return refuse(["502", "upstream", "", "", none]);
}

function renewed(answer, lines) {
  // Also with the answer that opens a WebSocket: cookies that get lost would make the next renewal a reuse.
  const renewed = answer.webSocket
    ? new Response(null, { status: 101, webSocket: answer.webSocket, headers: answer.headers })
    : new Response(answer.body, answer);
  for (const line of lines) renewed.headers.append("set-cookie", line);
  renewed.headers.set("cache-control", "no-store");
  return renewed;
}

const [P, X] = [112, 120]; // what PREFIX and OVERRIDES begin with: most other names are told apart by their first letter

// Takes away what could be taken for a word of the gate, and headers by which an application would take the request for another
// one than was judged. Servers read `_` in a header's name as `-`, so both are the same name here.
function strip(headers) {
  let doomed = null;
  for (const name of headers.keys()) {
    const first = name.charCodeAt(0);
    if (first !== P && first !== X) continue;
    const spelled = name.replaceAll("_", "-");
    if (spelled.startsWith(PREFIX) || OVERRIDES.includes(spelled)) (doomed ??= []).push(name);
  }
  if (doomed !== null) for (const name of doomed) headers.delete(name);
}

// --- the upstream that is the gate itself ---

/**
 * The gate's own answer, which tells what an application would be told: arguments as of `forward`. It has no body, so that
 * without lines it may be given again.
 */
export function own(values, lines) {
  // A plain object: an empty `Headers` that is filled costs several times as much.
  const headers = { "cache-control": "no-store" };
  for (let i = 0; i < IDENTITY.length; i++) if (values[i] !== "") headers[IDENTITY[i]] = values[i];
  const answer = new Response(null, { status: 204, headers });
  if (lines) for (const line of lines) answer.headers.append("set-cookie", line);
  return answer;
}
