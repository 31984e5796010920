// Uses the demonstration page in Chromium as a person would, by the keyboard and the names that a screen reader tells.
//
//   node two_devices.mjs CHROMIUM PAGE
//
// Says what it saw, line by line; ends with 1 at the first thing that is not as it must be.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

// From the acknowledgement to the refusal.
const EFFECT_MS_MAX = 1000;
const DEADLINE_MS = 20_000;

const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--headless=new", "--no-sandbox"] });
try {
  const context = await browser.newContext();
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const watched = watch(page);
  await page.goto(address);
  await twoDevices(page, context);
  await noCredentialShows(page, context, watched);
} finally {
  await browser.close();
}

async function twoDevices(page, context) {
  const [web, phone] = [deviceOf(page, "Browser"), deviceOf(page, "Phone")];
  const name = page.getByLabel("Name");
  await name.fill("No Name");
  await web.press("Sign in");
  await page.getByRole("status").getByText("a name has 1 to 32 of a-z and 0-9").waitFor();
  await name.fill("alice");
  for (const device of [web, phone]) {
    await device.shows("Not signed in");
    await device.press("Sign in");
    await device.shows("Admitted (200)");
  }
  await web.says("upstream", "http://127\\.0\\.0\\.1:\\d+");
  await cookiesAreOutOfReach(page, context);
  assert.equal(await statusOf(page, "/app/whoami"), 200);

  await page.getByRole("button", { name: "Make admin" }).press("Enter");
  await acted(page, "Make admin", { Browser: /^renewed/, Phone: /^(refused|renewed)/ });
  for (const device of [web, phone]) {
    await device.says("roles", "admin,member");
    await device.callsAsAdmin("As admin: allowed (200)");
  }
  await web.press("Open a WebSocket");
  await web.tells("WebSocket: open, and says hello");

  await page.getByRole("button", { name: "Take admin away" }).press("Enter");
  await acted(page, "Take admin away", { Browser: /^renewed/, Phone: /^(refused|renewed)/ });
  for (const device of [web, phone]) {
    await device.says("roles", "member");
    await device.callsAsAdmin(/^As admin: .* \(403\)$/);
  }

  await phone.press("Sign out");
  await acted(page, "Sign out: phone", { Browser: /^not concerned$/, Phone: /^refused/ });
  await phone.shows("Refused (401)");
  assert.equal(await statusOf(page, "/app/whoami"), 200, "the browser stays signed in");
  await phone.press("Sign in");
  await phone.shows("Admitted (200)");

  await page.getByRole("button", { name: "Sign out everywhere" }).press("Enter");
  await acted(page, "Sign out everywhere", { Browser: /^refused/, Phone: /^refused/ });
  for (const device of [web, phone]) await device.shows("Refused (401)");
  // Not by what the page believes.
  assert.equal(await statusOf(page, "/app/whoami"), 401);
  assert.equal(await page.getByRole("status").getByText("failed").count(), 0);
}

function deviceOf(page, name) {
  const root = page.getByRole("region", { name, exact: true });
  const status = (text) => root.getByRole("status").filter({ hasText: text }).waitFor();
  const device = {
    press: (button) => root.getByRole("button", { name: button, exact: true }).press("Enter"),
    shows: status,
    tells: status,
    says: (term, text) => root.locator("dt", { hasText: term }).locator("xpath=following-sibling::dd").filter({ hasText: new RegExp(`^${text}$`) }).waitFor(),
    async callsAsAdmin(answer) {
      await device.press("Call as admin");
      await status(answer);
    },
  };
  return device;
}

// Waits until the newest row of the table is of this command and complete, and checks its cells.
async function acted(page, what, wanted) {
  const row = page.getByRole("row").nth(1);
  await row.getByRole("rowheader", { name: what, exact: true }).waitFor();
  await row.filter({ hasNotText: "…" }).waitFor();
  const [acknowledged, web, phone] = await row.getByRole("cell").allInnerTexts();
  console.log(`${what}: acknowledged after ${acknowledged}; browser ${web}; phone ${phone}`);
  for (const [name, cell] of [["Browser", web], ["Phone", phone]]) {
    assert.match(cell, wanted[name], `${what}, ${name}`);
    const ms = / after (\d+) ms$/.exec(cell)?.[1] ?? 0;
    assert.ok(Number(ms) <= EFFECT_MS_MAX, `${what}, ${name}: ${cell}`);
  }
}

function statusOf(page, path) {
  return page.evaluate(async (path) => {
    const answer = await fetch(path, { cache: "no-store" });
    await answer.text();
    return answer.status;
  }, path);
}

// COO-03: `__Host-Http-`, Secure and HttpOnly, also on http://localhost.
async function cookiesAreOutOfReach(page, context) {
  const cookies = await context.cookies();
  assert.deepEqual(cookies.map(({ name }) => name).sort(), ["__Host-Http-at", "__Host-Http-rt"]);
  for (const { name, secure, httpOnly, sameSite, path } of cookies) {
    assert.deepEqual({ secure, httpOnly, sameSite, path }, { secure: true, httpOnly: true, sameSite: "Lax", path: "/" }, name);
  }
  assert.equal(await page.evaluate(() => document.cookie), "");
}

// Gathers what a credential must not be in, and the credentials themselves.
function watch(page) {
  const watched = { urls: [], bodies: [], complaints: [], browsers: new Set(), phones: new Set(), reading: [] };
  page.on("request", (request) => watched.urls.push(request.url()));
  page.on("websocket", (socket) => watched.urls.push(socket.url()));
  page.on("pageerror", (error) => watched.complaints.push(error.message));
  page.on("console", (message) => {
    // That a request was refused is what this page is about.
    if (message.type() === "error" && !/status of 40[013]/.test(message.text())) watched.complaints.push(message.text());
  });
  page.on("response", (response) => watched.reading.push(read(response, watched).catch(() => {})));
  return watched;
}

async function read(response, watched) {
  for (const { name, value } of await response.headersArray()) {
    const token = name.toLowerCase() === "set-cookie" && /^__Host-Http-[ar]t=([^;]+)/.exec(value)?.[1];
    if (token) watched.browsers.add(token);
  }
  const text = await response.text();
  if (!new URL(response.url()).pathname.startsWith("/demo/phone/")) watched.bodies.push(text);
  else for (const name of ["access_token", "refresh_token"]) watched.phones.add(JSON.parse(text)[name] ?? "none");
}

// I10, and that the tokens of the browser are in no answer that a script can read.
async function noCredentialShows(page, context, watched) {
  await Promise.all(watched.reading);
  const tokens = [...watched.browsers, ...watched.phones].filter((token) => token !== "none");
  assert.ok(watched.browsers.size >= 4 && tokens.length >= 10, `saw ${tokens.length} tokens`);
  const places = { urls: watched.urls, bodies: watched.bodies, page: [await page.content(), page.url()] };
  for (const [place, texts] of Object.entries(places)) {
    assert.ok(texts.every((text) => tokens.every((token) => !text.includes(token))), `a token in the ${place}`);
  }
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length), 0);
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.deepEqual(watched.complaints, []);
  console.log(`${tokens.length} tokens are in none of ${watched.urls.length} addresses and ${watched.bodies.length} answers`);
}
