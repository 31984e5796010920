// The page of the demo: two devices of one person, each of which asks the gate every 100 ms.
const PROBE_MS = 100;
const STATUS_MS = 1000;

const find = (selector, within = document) => within.querySelector(selector);
const say = (text) => { find("#message").textContent = text; };
const subject = () => find("#name").value;

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? said.error_description ?? `status ${answer.status}`);
  return said;
}

class Device {
  // `credentials` says how a request of this device carries its token.
  constructor(id, credentials) {
    this.root = find(`#${id}`);
    this.credentials = credentials;
    this.session = null;
    this.status = null;
    this.awaited = null; // the command whose effect is awaited: when it was acknowledged, and when the gate acted on it
    this.probing = false;
    setInterval(() => this.probe(), PROBE_MS);
    find(".login", this.root).onclick = () => attempt(() => this.login());
    find(".logout", this.root).onclick = () => attempt(() => this.logout());
    find(".admin", this.root).onclick = () => attempt(() => this.callAsAdmin());
  }

  ask(path) { return fetch(path, { cache: "no-store", ...this.credentials() }); }

  async probe() {
    if (this.probing) return;
    this.probing = true;
    try {
      const answer = await this.ask("/app/whoami");
      const said = await answer.json().catch(() => ({}));
      this.show(answer.status, answer.ok ? said : {}, said.detail);
    } catch {
      this.show(0, {}, "no answer");
    } finally {
      this.probing = false;
    }
  }

  show(status, said, detail) {
    const renewed = said.version && said.version !== this.version;
    if (this.awaited !== null && (status === 401 || renewed)) {
      this.awaited.acted ??= { at: performance.now(), what: renewed ? "renewed with the new roles" : "refused" };
      this.settle();
    }
    this.status = status;
    if (said.version) this.version = said.version;
    this.session = said.session ?? this.session;
    this.root.className = status === 200 ? "admitted" : "refused";
    find(".state", this.root).textContent = status === 200 ? "admitted (200)" : `${detail ?? "refused"} (${status})`;
    const rows = Object.entries(said).flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, text.textContent] = [name, value || "none"];
      return [term, text];
    });
    find("dl", this.root).replaceChildren(...rows);
    if (status === 401) this.refused();
  }

  refused() {}

  // Begins to wait for the effect of a command; only of devices that are admitted before it.
  expect() {
    this.awaited = this.status === 200 ? { acknowledged: null, acted: null } : null;
    find(".refused", this.root).textContent = this.awaited ? "waiting for the gate …" : "";
  }

  // The command was acknowledged at this time; `null` if it changed nothing.
  acknowledge(at) {
    if (this.awaited === null) return;
    if (at === null) {
      this.awaited = null;
      find(".refused", this.root).textContent = "";
      return;
    }
    this.awaited.acknowledged = at;
    this.settle();
  }

  // The gate may act before the page hears of the acknowledgement: then it is 0 ms.
  settle() {
    const { acknowledged, acted } = this.awaited;
    if (acknowledged === null || acted === null) return;
    const ms = Math.max(0, Math.round(acted.at - acknowledged));
    find(".refused", this.root).textContent = `${acted.what} ${ms} ms after the acknowledgement`;
    this.awaited = null;
  }

  async logout() {
    if (this.session !== null) await command([this], "/demo/revoke/one", { session_id: this.session });
  }

  async callAsAdmin() {
    const answer = await this.ask("/app/admin/ping");
    const said = await answer.json().catch(() => ({}));
    find(".answer", this.root).textContent = `/app/admin/ping: ${answer.status} ${said.detail ?? "pong"}`;
  }
}

class Browser extends Device {
  constructor() {
    super("web", () => ({ credentials: "same-origin" }));
    find(".socket", this.root).onclick = () => this.hello();
  }

  async login() { this.session = (await post("/demo/login", { name: subject() })).session_id; }

  hello() {
    const answer = find(".answer", this.root);
    const port = document.documentElement.dataset.gatePort;
    const socket = new WebSocket(`ws://${location.hostname}:${port}/app/ws`);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => { answer.textContent = `WebSocket: ${event.data}`; socket.close(); };
    socket.onerror = () => { answer.textContent = "WebSocket: refused"; };
  }
}

class Phone extends Device {
  constructor() {
    // One credential per request: the browser's cookies stay out.
    super("phone", () => ({ credentials: "omit", headers: this.tokens ? { authorization: `Bearer ${this.tokens.access_token}` } : {} }));
    this.tokens = null;
    this.renewing = false;
  }

  async login() {
    this.tokens = await post("/demo/phone/login", { name: subject() });
    this.session = this.tokens.session_id;
  }

  // A phone renews when it is refused, and is signed out when that fails too.
  async refused() {
    if (this.tokens === null || this.renewing) return;
    this.renewing = true;
    try {
      this.tokens = await post("/demo/phone/refresh", { refresh_token: this.tokens.refresh_token });
    } catch {
      this.tokens = null;
    } finally {
      this.renewing = false;
    }
  }
}

async function attempt(act) {
  say("");
  try {
    await act();
  } catch (error) {
    say(error.message);
  }
}

async function command(devices, path, body) {
  for (const device of devices) device.expect();
  let acknowledged = null;
  try {
    const changed = await post(path, body);
    if (changed.floors.length > 0) acknowledged = performance.now();
  } finally {
    for (const device of devices) device.acknowledge(acknowledged);
  }
}

const both = [new Browser(), new Phone()];
const ofBoth = (path, more) => () => attempt(() => command(both, path, { name: subject(), ...more }));
find("#grant").onclick = ofBoth("/demo/roles", { roles: ["member", "admin"] });
find("#withdraw").onclick = ofBoth("/demo/roles", { roles: ["member"] });
find("#all").onclick = ofBoth("/demo/revoke/all", {});

setInterval(async () => {
  const answer = await fetch("/.portcullis/status", { cache: "no-store" }).catch(() => null);
  find("#gate").textContent = answer?.ok ? JSON.stringify(await answer.json(), null, 2) : "no answer";
}, STATUS_MS);
