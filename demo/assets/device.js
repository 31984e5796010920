// A device: asks the gate who it is again and again, shows the answer, and tells when the effect of a command arrives.
const PROBE_MS = 100;
const EFFECT_MS_MAX = 10_000;
const HELLO_MS = 500;
const SAID = ["subject", "session", "tenant", "roles", "version", "upstream"];

export const find = (selector, within = document) => within.querySelector(selector);

// Only what differs, since screen readers tell every change of a status.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows pairs of name and value in a list of descriptions.
export function list(root, pairs) {
  const wanted = pairs.map(([name, value]) => `${name}\n${value}`).join("\n");
  if (root.dataset.shown === wanted) return;
  root.dataset.shown = wanted;
  root.replaceChildren(...pairs.map(([name, value]) => {
    const group = document.createElement("div");
    for (const [kind, text] of [["dt", name], ["dd", value]]) {
      group.append(Object.assign(document.createElement(kind), { textContent: text }));
    }
    return group;
  }));
}

export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? said.error_description ?? `${path} was answered with status ${answer.status}`);
  return said;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class Device {
  // `subject` tells the name of the person; `credentials`, how a request of this device carries its token.
  constructor(id, subject, credentials) {
    Object.assign(this, { id, subject, credentials, root: find(`#${id}`) });
    this.session = null;
    this.version = null;
    this.status = null;
    this.awaited = null; // the effect that is awaited: { acknowledged, acted, until, settle }
    this.wake = () => {};
    this.run();
  }

  part(name) { return find(`.${name}`, this.root); }

  ask(path) { return fetch(path, { cache: "no-store", ...this.credentials() }); }

  async run() {
    for (;;) {
      await this.probe();
      const hurried = this.awaited !== null && this.status > 0;
      if (!hurried) await Promise.race([pause(PROBE_MS), new Promise((done) => { this.wake = done; })]);
    }
  }

  async probe() {
    try {
      const answer = await this.ask("/app/whoami");
      const said = await answer.json().catch(() => ({}));
      const upstream = answer.headers.get("x-upstream");
      await this.take(answer.status, answer.ok ? { ...said, upstream } : {}, said.detail);
    } catch {
      await this.take(0, {}, "no answer");
    }
  }

  async take(status, said, detail) {
    const at = performance.now();
    const renewed = status === 200 && this.version !== null && said.version !== this.version;
    if (this.awaited !== null) {
      if (status === 401 || renewed) this.awaited.acted ??= { at, what: renewed ? "renewed" : "refused" };
      this.settle();
    }
    this.status = status;
    if (status === 200) Object.assign(this, { session: said.session, version: said.version });
    this.show(said, detail);
    if (status === 401) await this.refused();
  }

  show(said, detail) {
    const signedIn = this.session !== null;
    const kind = this.status === 200 ? "admitted" : signedIn || this.status !== 401 ? "refused" : "idle";
    if (this.root.dataset.state !== kind) {
      this.root.dataset.state = kind;
      this.root.className = `device ${kind}`;
    }
    put(this.part("state"), { admitted: "Admitted (200)", refused: `Refused (${this.status})`, idle: "Not signed in" }[kind]);
    const known = SAID.filter((name) => name in said).map((name) => [name, said[name] || "none"]);
    list(find("dl", this.root), known.length > 0 ? known : [["answer", detail ?? "refused"]]);
  }

  async refused() {}

  // Begins to wait for the effect of a command; `settle` is called with what there is to say of it.
  expect(settle) {
    if (this.status !== 200) {
      settle("was not signed in");
      return;
    }
    this.awaited = { acknowledged: null, acted: null, until: performance.now() + EFFECT_MS_MAX, settle };
    put(this.part("effect"), "Waiting for the gate …");
    this.wake();
  }

  // The command was acknowledged at this time; `null` if it had no effect.
  acknowledge(at) {
    if (this.awaited === null) return;
    if (at === null) this.finish("nothing changed", "");
    else this.awaited.acknowledged = at;
    this.settle();
  }

  // The gate may act before the page hears of the acknowledgement: then it is 0 ms.
  settle() {
    if (this.awaited === null) return;
    const { acknowledged, acted, until } = this.awaited;
    if (acknowledged !== null && acted !== null) {
      const ms = Math.max(0, Math.round(acted.at - acknowledged));
      const what = acted.what === "renewed" ? "renewed with the new roles" : "refused";
      this.finish(`${acted.what} after ${ms} ms`, `Its token was ${what} ${ms} ms after the acknowledgement`);
    } else if (performance.now() > until) {
      this.finish("no effect", `No effect within ${EFFECT_MS_MAX / 1000} s`);
    }
  }

  finish(entry, text) {
    const { settle } = this.awaited;
    this.awaited = null;
    put(this.part("effect"), text);
    settle(entry);
  }

  async callAsAdmin() {
    const answer = await this.ask("/app/admin/ping");
    const said = await answer.json().catch(() => ({}));
    put(this.part("answer"), `As admin: ${answer.ok ? "allowed" : said.detail ?? "refused"} (${answer.status})`);
  }
}

export class Browser extends Device {
  constructor(subject) {
    super("web", subject, () => ({ credentials: "same-origin" }));
    this.socket = null;
  }

  async login() { this.session = (await post("/demo/login", { name: this.subject() })).session_id; }

  toggleSocket() {
    if (this.socket !== null) this.socket.close();
    else this.openSocket();
  }

  openSocket() {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/app/ws`);
    const say = (text) => put(this.part("socket-state"), `WebSocket: ${text}`);
    let hellos = null;
    let echoes = 0;
    this.socket = socket;
    put(this.part("socket"), "Close the WebSocket");
    socket.onopen = () => {
      socket.send("hello");
      hellos = setInterval(() => socket.send("hello"), HELLO_MS);
    };
    socket.onmessage = () => {
      echoes += 1;
      // The first only: it would be told aloud twice a second.
      if (echoes === 1) say("open, and says hello");
    };
    socket.onclose = ({ code, reason }) => {
      clearInterval(hellos);
      this.socket = null;
      put(this.part("socket"), "Open a WebSocket");
      say(hellos === null ? "refused" : `closed after ${echoes} hellos (${code}${reason && `, ${reason}`})`);
    };
  }
}

export class Phone extends Device {
  constructor(subject) {
    // One credential per request: the browser's cookies stay out.
    super("phone", subject, () => ({ credentials: "omit", headers: this.tokens ? { authorization: `Bearer ${this.tokens.access_token}` } : {} }));
  }

  async login() {
    this.tokens = await post("/demo/phone/login", { name: this.subject() });
    this.session = this.tokens.session_id;
  }

  // A phone renews when it is refused, and is signed out when that fails too.
  async refused() {
    if (!this.tokens) return;
    const { refresh_token } = this.tokens;
    const renewed = await post("/demo/phone/refresh", { refresh_token }).catch(() => null);
    // It may have signed in again meanwhile.
    if (this.tokens?.refresh_token === refresh_token) this.tokens = renewed;
  }
}
