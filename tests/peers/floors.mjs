// A set of floors inside Wasm: /fill/N, /look_up/FIRST/N, /merge/FIRST/N, /bytes.
import module from "./wasm.wasm";
import { initSync, Many } from "bench-wasm";

let many;

function work(what, first, count) {
  switch (what) {
    case "fill":
      initSync({ module });
      many = new Many(first);
      return "";
    case "look_up":
      return many.look_up(first, count);
    case "merge":
      return many.merge(first, count) ?? "";
    default:
      return many.memory_bytes();
  }
}

export default {
  fetch(request) {
    const [, what, first, count] = new URL(request.url).pathname.split("/");
    return new Response(String(work(what, Number(first), Number(count))));
  },
};
