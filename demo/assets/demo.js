// The page: two devices of one person, the commands, and what came of them.
import { Browser, Phone, find, list, post, put } from "./device.js";

const STATUS_MS = 1000;
const ROWS_MAX = 12;

const subject = () => find("#name").value;
const devices = [new Browser(subject), new Phone(subject)];

async function attempt(act) {
  put(find("#message"), "");
  try {
    await act();
  } catch (error) {
    put(find("#message"), error.message);
  }
}

// A row of the table; returns a function that fills its cells.
function row(what) {
  const [tr, cells] = [document.createElement("tr"), new Map()];
  for (const name of ["what", "acknowledged", ...devices.map((device) => device.id)]) {
    const cell = document.createElement(name === "what" ? "th" : "td");
    if (name === "what") cell.scope = "row";
    cell.textContent = name === "what" ? what : "…";
    cells.set(name, cell);
    tr.append(cell);
  }
  const body = find("#effects tbody");
  find("td[colspan]", body)?.parentElement.remove();
  body.prepend(tr);
  while (body.rows.length > ROWS_MAX) body.deleteRow(-1);
  return (name, text) => { cells.get(name).textContent = text; };
}

// Sends a command and waits for its effect on these devices.
async function command(what, affected, path, body) {
  const fill = row(what);
  for (const device of devices) {
    if (affected.includes(device)) device.expect((text) => fill(device.id, text));
    else fill(device.id, "not concerned");
  }
  const began = performance.now();
  let acknowledged = null;
  try {
    const changed = await post(path, body);
    const now = performance.now();
    fill("acknowledged", `${Math.round(now - began)} ms`);
    if (changed.floors.length > 0) acknowledged = now;
  } catch (error) {
    fill("acknowledged", "failed");
    throw error;
  } finally {
    for (const device of affected) device.acknowledge(acknowledged);
  }
}

async function signOut(device) {
  if (device.session === null) throw new Error("This device is not signed in.");
  await command(`Sign out: ${device.id === "web" ? "browser" : "phone"}`, [device], "/demo/revoke/one", { session_id: device.session });
}

for (const device of devices) {
  const acts = {
    login: () => device.login(),
    logout: () => signOut(device),
    admin: () => device.callAsAdmin(),
    socket: () => device.toggleSocket(),
  };
  for (const [name, act] of Object.entries(acts)) device.part(name)?.addEventListener("click", () => attempt(act));
}

const ofBoth = (id, path, more = {}) => {
  const button = find(id);
  button.onclick = () => attempt(() => command(button.textContent, devices, path, { name: subject(), ...more }));
};
ofBoth("#grant", "/demo/roles", { roles: ["member", "admin"] });
ofBoth("#withdraw", "/demo/roles", { roles: ["member"] });
ofBoth("#all", "/demo/revoke/all");

// Times are milliseconds since 1970; counters stand in an object of their own.
function told([name, value]) {
  let text = value;
  if (value === null) text = "not yet";
  else if (name === "as_of_ms") text = `${Math.max(0, Date.now() - value)} ms ago`;
  else if (typeof value === "object") text = Object.entries(value).map(([kind, count]) => `${kind} ${count}`).join(", ");
  return [name.replace(/_ms$/, "").replaceAll("_", " "), String(text).replaceAll("_", " ")];
}

async function showGate() {
  const answer = await fetch("/.portcullis/status", { cache: "no-store" }).catch(() => null);
  const said = answer?.ok ? await answer.json().catch(() => null) : null;
  list(find("#gate"), said === null ? [["gate", "no answer"]] : Object.entries(said).map(told));
  setTimeout(showGate, STATUS_MS);
}
showGate();
