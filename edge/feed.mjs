// The feed: pulls of the hub in the background, and what hub or origin say on behalf of a request.
import app from "./index.js";
import { originUrl } from "./session.mjs";

const wasm = app.prototype;

const PULL_MS_MIN = 200; // between pulls in the background
const PULL_MS_MAX = 1_500; // deadline of one pull, and how long a request waits for it
const LATELY_MS = 500; // a gate that was idle for longer asks its hub before it lets somebody pass
const RETRY_MS = 1_000; // after a pull that failed, nobody waits for another one
// What `accept` in gate.rs says.
const [ALL_GOOD, OTHER_ROUTES] = [1, 2];

const SKEW_REPORT_MS = 60_000; // between reports of a clock that is wrong

const NOTHING = { query: null, headers: undefined };
const sources = { hub: source(askHub), origin: source(askOrigin) };

let follows = false; // whether the gate has a feed
let onRoutes = null;
let position = null; // as `wasm.position` says it; null after everything that may have moved it
let hubId = null;
let skewSaidAt = 0;

// A source, its pulls counted from 1: `running` is the one that is under way, a promise of whether it succeeded; `held`
// is the last answer that was taken in: to which question, and how to ask for another one.
function source(ask) {
  return { ask, count: 0, running: null, begunAt: 0, heardAt: 0, failedAt: 0, held: NOTHING };
}

/** A gate was configured: whether it has a feed is asked anew. `rerouted` is called when the feed brought other routes. */
export function restart(rerouted) {
  position = wasm.position();
  follows = position !== "";
  for (const source of Object.values(sources)) source.held = NOTHING;
  onRoutes = rerouted;
}

/** Whether the hub was heard of so long ago that a gate without traffic may have missed something. */
export const isIdle = (now) => follows && now - sources.hub.heardAt >= LATELY_MS && sources.hub.failedAt === 0;

/** Pulls from the hub unless that was done just now; null if there is nothing to wait for. */
export function refresh(env, now) {
  const { hub } = sources;
  const age = now - hub.begunAt;
  if (!follows || (age < PULL_MS_MIN && age >= 0)) return null;
  return isUnderWay(hub, now) ? hub.running : begin(hub, env, now);
}

/**
 * Has the replica hold all that a source ("hub" or "origin") knew when this was called; whether it does. A pull that is
 * under way may have been answered before, so it does not count: who comes meanwhile shares the next one.
 */
export async function consult(name, env, ctx) {
  const asked = sources[name];
  const came = asked.count;
  while (follows && Date.now() - asked.failedAt >= RETRY_MS) {
    const wasBegun = asked.count > came;
    let begun = null;
    const pull = isUnderWay(asked, Date.now()) ? asked.running : wasBegun ? null : (begun = begin(asked, env, Date.now()));
    if (pull === null) return asked.failedAt === 0;
    ctx.waitUntil(pull);
    const fresh = asked.count > came;
    // Of another request's pull nobody hears when that request was cancelled.
    const good = await (pull === begun ? pull : within(PULL_MS_MAX, pull));
    if (fresh) return good;
  }
  return false;
}

// What comes of a promise, or false if that takes longer.
async function within(ms, promise) {
  let timer;
  const late = new Promise((done) => { timer = setTimeout(done, ms, false); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** As `consult`, but what a source said to a question of at most `ms` ago will do. */
export function heard(name, ms, env, ctx) {
  return Date.now() - sources[name].heardAt < ms ? true : consult(name, env, ctx);
}

// One pull of a source at a time; one that takes longer than its deadline is given up, since the request that began it may
// have been cancelled together with it.
const isUnderWay = ({ running, begunAt }, now) => running !== null && now - begunAt < PULL_MS_MAX;

function begin(asked, env, now) {
  asked.count += 1;
  asked.begunAt = now;
  asked.running = attempt(asked, env, now, asked.count);
  return asked.running;
}

// Whether a pull succeeds in its time.
async function attempt(asked, env, now, count) {
  try {
    if (!(await within(PULL_MS_MAX, pull(asked, env)))) throw new Error("the source of floors did not answer in time");
    [asked.heardAt, asked.failedAt] = [now, 0];
    return true;
  } catch (error) {
    asked.failedAt = Date.now();
    console.warn(JSON.stringify({ event: "gate_pull_failed", reason: String(error?.message ?? error) }));
    return false;
  } finally {
    if (asked.count === count) asked.running = null;
  }
}

async function pull(asked, env) {
  const query = (position ??= wasm.position());
  const { held } = asked;
  const answer = await asked.ask(env, query, held.query === query ? held.headers : undefined);
  // All that there is was taken in before; how old it is shows when the request is judged.
  if (answer.status === 304) return true;
  const bytes = await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`the source of floors answered ${answer.status}`);
  const now = Date.now();
  position = null;
  const said = wasm.accept(new Uint8Array(bytes), now);
  if (said & OTHER_ROUTES) onRoutes();
  if (!(said & ALL_GOOD)) throw new Error("frames were refused");
  const etag = answer.headers.get("etag");
  asked.held = etag === null ? NOTHING : { query, headers: { "if-none-match": etag } };
  const ahead = wasm.clock_ahead_ms(now);
  if (ahead > 0 && now - skewSaidAt >= SKEW_REPORT_MS) {
    skewSaidAt = now;
    console.warn(JSON.stringify({ event: "gate_clock_skewed", store_ahead_ms: ahead }));
  }
  return true;
}

// --- the sources ---

/** The name of the gate's hub. */
export const hubName = (env) => env.HUB_NAME || "local";

/** The gate's hub. */
export const hub = (env) => env.HUB.get((hubId ??= env.HUB.idFromName(hubName(env))));

function askHub(env, query, headers) {
  return hub(env).fetch(`http://hub/sync?${query}`, { headers });
}

// The origin reads the log for the answer: what was acknowledged before is in it.
function askOrigin(env, query, headers) {
  const signal = AbortSignal.timeout(PULL_MS_MAX);
  return fetch(`${originUrl(env)}/feed/delta?${query}&current=true`, { headers, signal });
}
