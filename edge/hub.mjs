// The hub as a Durable Object. What it keeps and hands out is decided by the rules in WebAssembly; here answers that were given
// are given again, so that a hundred gates that ask the same enter the rules once.
import { Hub as Rules } from "./index.js";

const ANSWERS_MAX = 64;
const ANSWER_BYTES_MAX = 64 * 1024; // of those that are kept: deltas and heartbeats, no snapshots

export class Hub {
  #rules;
  #instance = crypto.randomUUID();
  #version = 0; // another one after everything that may change an answer
  #pulling = 0; // how many pulls are under way, which go on after frames were taken in
  #etag = `"${this.#instance}-0"`; // of this version
  #same = null; // the answer to who holds all of it; without a body it may be given again
  #answers = new Map(); // of this version, by URL

  constructor(state, env) {
    this.#rules = new Rules(state, env);
  }

  fetch(request) {
    // The rules take frames in and answer in one turn (hub.rs), so until then what was answered before still is the answer.
    if (request.method !== "GET") return this.#change(() => this.#rules.fetch(request));
    if (this.#pulling > 0) return this.#rules.fetch(request);
    // RFC 9110 §13.1.2: who has the answer to this question of this version lacks nothing.
    const etag = this.#etag;
    if (request.headers.get("if-none-match") === etag) return (this.#same ??= new Response(null, { status: 304, headers: { etag } }));
    const body = this.#answers.get(request.url);
    return body === undefined ? this.#ask(request) : answerOf(body, etag);
  }

  async alarm() {
    this.#pulling += 1;
    try {
      return await this.#change(() => this.#rules.alarm());
    } finally {
      this.#pulling -= 1;
    }
  }

  async #ask(request) {
    const etag = this.#etag;
    const answer = await this.#rules.fetch(request);
    if (answer.status !== 200 || answer.headers.has("cache-control")) return answer;
    const body = await answer.arrayBuffer();
    if (body.byteLength === 0 || this.#pulling > 0 || this.#etag !== etag) return answerOf(body);
    if (body.byteLength <= ANSWER_BYTES_MAX) {
      if (this.#answers.size >= ANSWERS_MAX) this.#answers.clear();
      this.#answers.set(request.url, body);
    }
    return answerOf(body, etag);
  }

  async #change(change) {
    try {
      return await change();
    } finally {
      this.#version += 1;
      this.#etag = `"${this.#instance}-${this.#version}"`;
      this.#same = null;
      this.#answers.clear();
    }
  }
}

function answerOf(body, etag) {
  const headers = { "content-type": "application/octet-stream" };
  if (etag !== undefined) headers.etag = etag;
  return new Response(body, { headers });
}
