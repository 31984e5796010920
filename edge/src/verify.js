// Checks signatures with the runtime's own cryptography, synchronously (needs the flag nodejs_compat).
// `process.getBuiltinModule` instead of an import, since the bundler of worker-build knows no node: modules.
const crypto = process.getBuiltinModule("node:crypto");

// SubjectPublicKeyInfo up to the key itself (RFC 8410 §4, RFC 5480 §2).
const PREFIXES = {
  1: Buffer.from("302a300506032b6570032100", "hex"),
  2: Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex"),
};

// Pinned keys and those of the feed; more than a few dozen cannot be in use at once.
const KEYS_MAX = 64;
const keys = []; // { algorithm, bytes, key }

function keyOf(algorithm, bytes) {
  let found = keys.find((known) => known.algorithm === algorithm && isSame(known.bytes, bytes));
  if (found === undefined) {
    if (keys.length >= KEYS_MAX) keys.length = 0;
    found = { algorithm, bytes: bytes.slice(), key: imported(algorithm, bytes) };
    keys.push(found);
  }
  return found.key;
}

function isSame(one, other) {
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return one.length === other.length;
}

function imported(algorithm, bytes) {
  const key = Buffer.concat([PREFIXES[algorithm], bytes]);
  // workerd takes r ‖ s only beside the encoded key, not beside a KeyObject.
  if (algorithm === 1) return crypto.createPublicKey({ key, format: "der", type: "spki" });
  return { key, format: "der", type: "spki", dsaEncoding: "ieee-p1363" };
}

/** Whether `signature` is one of `message`; 1 is Ed25519, 2 is ES256 with a signature of r ‖ s. Never throws. */
export function verify(algorithm, key, message, signature) {
  try {
    return crypto.verify(algorithm === 1 ? null : "sha256", message, keyOf(algorithm, key), signature);
  } catch {
    return false;
  }
}
