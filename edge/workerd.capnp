# The gate and its hub under bare workerd, beside the files of the build: workerd serve workerd.capnp
# `do` is the folder of the hub's storage and must exist.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = .services,
  sockets = [(name = "http", address = "127.0.0.1:8787", http = (), service = "gate")]
);

const services :List(Workerd.Service) = [
  (name = "gate", worker = .gate),
  (name = "disk", disk = (path = "do", writable = true)),
  (name = "internet", network = (allow = ["public", "private", "local"]))
];

const gate :Workerd.Worker = (
  modules = [
    (name = "entry.mjs", esModule = embed "entry.mjs"),
    (name = "connections.mjs", esModule = embed "connections.mjs"),
    (name = "refuse.mjs", esModule = embed "refuse.mjs"),
    (name = "session.mjs", esModule = embed "session.mjs"),
    (name = "feed.mjs", esModule = embed "feed.mjs"),
    (name = "hub.mjs", esModule = embed "hub.mjs"),
    (name = "upstream.mjs", esModule = embed "upstream.mjs"),
    (name = "policy.bin", data = embed "policy.bin"),
    (name = "index.js", esModule = embed "index.js"),
    (name = "index_bg.wasm", wasm = embed "index_bg.wasm")
  ],
  compatibilityDate = "2026-11-01",
  compatibilityFlags = ["nodejs_compat"],
  durableObjectNamespaces = [(className = "Hub", uniqueKey = "hub", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [
    (name = "HUB", durableObjectNamespace = "Hub"),
    (name = "HUB_NAME", fromEnvironment = "HUB_NAME"),
    (name = "ORIGIN_URL", fromEnvironment = "ORIGIN_URL"),
    (name = "ISSUER", fromEnvironment = "ISSUER"),
    (name = "AUDIENCE", fromEnvironment = "AUDIENCE"),
    (name = "CLIENT_ID", fromEnvironment = "CLIENT_ID"),
    (name = "FEED_KEYS", fromEnvironment = "FEED_KEYS"),
    (name = "TRUSTED_JWKS", fromEnvironment = "TRUSTED_JWKS"),
    (name = "CLOCK_SKEW_MS_MAX", fromEnvironment = "CLOCK_SKEW_MS_MAX"),
    (name = "ACCESS_COOKIE", fromEnvironment = "ACCESS_COOKIE"),
    (name = "REFRESH_COOKIE", fromEnvironment = "REFRESH_COOKIE"),
    (name = "ASSERTION_KEYS", fromEnvironment = "ASSERTION_KEYS"),
    (name = "UPSTREAMS", fromEnvironment = "UPSTREAMS"),
    (name = "RUNTIME_CACHE", text = "none")
  ]
);
