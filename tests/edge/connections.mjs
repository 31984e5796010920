// The bounds of edge/connections.mjs, with stand-ins for what only workerd has: how many connections may be open, and how much
// may wait for a client that does not read.
import assert from "node:assert/strict";

globalThis.IdentityTransformStream = TransformStream;
globalThis.Request ??= class {};
let now = Date.now();
Date.now = () => now;

// A Response with status 101 exists only in workerd.
const { Response } = globalThis;
globalThis.Response = class extends Response {
  constructor(body, init = {}) {
    super(body, init.webSocket ? { ...init, status: 200 } : init);
    this.webSocket = init.webSocket ?? null;
  }
};

const { connections, isLasting, watch } = await import("../../edge/connections.mjs");
const background = { waitUntil() {} };
const goes = async () => 200;

const stream = () => {
  let cancelled = false;
  const body = new ReadableStream({ cancel() { cancelled = true; } });
  const answer = new globalThis.Response(body, { headers: { "content-type": "text/event-stream" } });
  return { answer, cancelled: () => cancelled };
};

// --- how many ---

const most = 4_096;
const open = Array.from({ length: most }, () => watch(stream().answer, background, 5_000, goes));
assert.equal(connections().open, most);
assert.ok(open.every(({ status }) => status === 200));

const tooMany = stream();
const refused = watch(tooMany.answer, background, 5_000, goes);
assert.deepEqual([refused.status, refused.headers.get("retry-after"), tooMany.cancelled()], [503, "1", true]);

await open[0].body.cancel();
await new Promise((done) => setTimeout(done, 10));
assert.equal(connections().open, most - 1, "one that its client left makes room");
assert.equal(watch(stream().answer, background, 5_000, goes).status, 200);

// --- what the runtime has ended without a word ---

now += 60_000;
assert.equal(watch(stream().answer, background, 5_000, goes).status, 200);
assert.equal(connections().open, 1, "timers that are silent count for nothing");

// --- a client that does not read ---

class Socket extends EventTarget {
  readyState = 1;
  bufferedAmount = 0;
  accept() {}
  send(data) { this.bufferedAmount += data.byteLength; }
  close(...code) { this.readyState = 3; this.closed = code; }
  hears(data) { this.dispatchEvent(Object.assign(new Event("message"), { data })); }
}
globalThis.WebSocket = { CONNECTING: 0, OPEN: 1 };
const client = new Socket();
globalThis.WebSocketPair = function () { return { 0: new Socket(), 1: client }; };
const application = new Socket();
const answer = { status: 101, webSocket: application, headers: new Headers() };
assert.ok(isLasting(answer));
watch(answer, background, 5_000, goes);
for (let i = 0; i < 4; i++) application.hears(new Uint8Array(1 << 20));
assert.equal(client.closed, undefined);
application.hears(new Uint8Array(1));
assert.deepEqual([client.closed[0], application.closed[0]], [1008, 1008]);
application.hears(new Uint8Array(1));
assert.equal(client.bufferedAmount, (4 << 20) + 1, "nothing more is kept");
process.exit(0);
