// One signature, checked as often as a request asks, by one of three implementations: /subtle/N, /node/N, /wasm/N.
import module from "./wasm.wasm";
import { initSync, Checker } from "bench-wasm";

const crypto = process.getBuiltinModule("node:crypto");
let ready;

async function prepare(env) {
  initSync({ module });
  const [key, message, signature] = ["KEY", "MESSAGE", "SIGNATURE"].map((name) => Buffer.from(env[name], "base64"));
  const imported = await globalThis.crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
  // SubjectPublicKeyInfo up to the key itself (RFC 8410 §4).
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
  const handle = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
  const checker = new Checker(key);
  return {
    subtle: () => globalThis.crypto.subtle.verify("Ed25519", imported, signature, message),
    node: () => crypto.verify(null, message, handle, signature),
    wasm: () => checker.verify(message, signature),
  };
}

export default {
  async fetch(request, env) {
    ready ??= await prepare(env);
    const [, how, times] = new URL(request.url).pathname.split("/");
    for (let i = 0; i < Number(times); i++) {
      const good = how === "subtle" ? await ready.subtle() : ready[how]();
      if (!good) return new Response("the signature is refused", { status: 500 });
    }
    return new Response(null, { status: 204 });
  },
};
