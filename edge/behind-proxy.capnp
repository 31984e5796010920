# The gate of workerd.capnp behind a proxy that ends TLS: it believes what X-Forwarded-Proto says of the scheme, so only the proxy,
# which must set that header itself, may reach the socket: workerd serve behind-proxy.capnp
using Workerd = import "/workerd/workerd.capnp";
using Plain = import "workerd.capnp";

const config :Workerd.Config = (
  services = Plain.services,
  sockets = [
    (name = "http", address = "127.0.0.1:8787", http = (forwardedProtoHeader = "X-Forwarded-Proto"), service = "gate")
  ]
);
