// Connections that outlive their request: WebSockets and event streams. Each one is looked at again and again, from the
// replica in memory, for as long as it is open; when a request with its token would no longer pass, it is cut.
//
// I/O belongs to the request that began it, so every connection has a timer of its own; what the timers ask of the hub is
// asked once for all of them. Timers of a request that the runtime has ended never fire again, so a connection whose timer
// is silent counts for nothing.

import { refuse } from "./refuse.mjs";

const CONNECTIONS_MAX = 4_096; // of an isolate; half of the verified tokens that are kept, so that looking stays cheap
const LOOK_MS = [100, 2_000]; // the shortest and the longest time between two looks
const SILENT_MS_MAX = 30_000; // many times the longest that a look may take
const UNSENT_BYTES_MAX = 4 * 1024 * 1024; // in one direction of a WebSocket, since nothing holds its sender back

// Close codes: ours for what is 401 or 403 to a request; of the registry (RFC 6455 §11.7) for the rest.
const UNAUTHORIZED = [4401, "unauthorized"];
const TRY_AGAIN = [1013, "try again later"];
const TOO_SLOW = [1008, "the other side reads too slowly"];

const open = new Map(); // connection → when its timer fired last
let cut = 0;

/** What the gate says of its connections. */
export const connections = () => ({ open: open.size, cut });

/** Whether an answer is one that outlives its request. */
export const isLasting = (answer) =>
  answer.status === 101 || ((answer.headers.get("content-type") ?? "").startsWith("text/event-stream") && answer.body !== null);

/**
 * The answer, watched. `stands(ms)` is asked whether the connection may go on, from what was heard within `ms`: a promise of
 * the status that a request would get. There are four looks within `staleness_ms_max`, as far as their limits allow.
 */
export function watch(answer, ctx, staleness_ms_max, stands) {
  if (!hasRoom()) {
    answer.webSocket ? close(answer.webSocket, TRY_AGAIN) : answer.body?.cancel().catch(() => {});
    return refuse(["503", "connections", "", "", "the gate holds as many open connections as it may; try again"]);
  }
  const connection = {};
  const lookMs = Math.min(Math.max(staleness_ms_max / 4, LOOK_MS[0]), LOOK_MS[1]);
  const held = answer.webSocket ? relay(answer) : stream(answer, ctx);
  const end = () => open.delete(connection) && clearTimeout(connection.timer);
  const look = async () => {
    open.set(connection, Date.now());
    const status = await stands(lookMs).catch(() => 503);
    if (!open.has(connection)) return;
    if (status === 200) connection.timer = setTimeout(look, lookMs);
    else {
      end();
      cut += 1;
      held.cut(status === 401 || status === 403 ? UNAUTHORIZED : TRY_AGAIN);
    }
  };
  open.set(connection, Date.now());
  connection.timer = setTimeout(look, lookMs);
  held.ended.then(end, end);
  return held.answer;
}

function hasRoom() {
  if (open.size < CONNECTIONS_MAX) return true;
  const now = Date.now();
  for (const [connection, at] of open) if (now - at > SILENT_MS_MAX) open.delete(connection);
  return open.size < CONNECTIONS_MAX;
}

// --- event streams: the bytes go through the runtime, not through here ---

function stream(answer, ctx) {
  const { readable, writable } = new IdentityTransformStream();
  const end = new AbortController();
  // The client is to see an end, not a failure.
  const piped = answer.body.pipeTo(writable, { signal: end.signal, preventAbort: true });
  const ended = piped.catch(() => writable.close()).catch(() => {});
  ctx.waitUntil(ended);
  return { answer: new Response(readable, answer), ended, cut: () => end.abort() };
}

// --- WebSockets ---

function relay(answer) {
  const [outer, client] = Object.values(new WebSocketPair());
  const application = answer.webSocket;
  let over;
  const ended = new Promise((done) => { over = done; });
  const both = (code) => [client, application].forEach((socket) => close(socket, code));
  for (const [from, to] of [[client, application], [application, client]]) {
    from.accept();
    from.binaryType = "arraybuffer";
    from.addEventListener("message", ({ data }) => {
      if (to.readyState !== WebSocket.OPEN) return;
      to.send(data);
      if (to.bufferedAmount > UNSENT_BYTES_MAX) both(TOO_SLOW);
    });
    from.addEventListener("close", ({ code, reason }) => {
      close(to, [code, reason]);
      over();
    });
    from.addEventListener("error", () => {
      both([1011, "the connection was lost"]);
      over();
    });
  }
  return { answer: new Response(null, { status: 101, webSocket: outer, headers: answer.headers }), ended, cut: both };
}

// Codes that stand for no code (RFC 6455 §7.4.1) must not be sent.
function close(socket, [code, reason]) {
  try {
    if (socket.readyState === WebSocket.CONNECTING) socket.accept();
    if (code === 1005 || code === 1006 || code === 1015) socket.close();
    else socket.close(code, reason);
  } catch {
    // It is closed.
  }
}
