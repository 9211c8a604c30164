#!/bin/sh
# h5wasm throws on float16, where its README promises raw bytes, also where JavaScript has Float16Array.
#
# Versions: h5wasm 0.10.3, jsfive 0.4.2, node 26.10.0 from npm (it has Float16Array; the same with Node 20, which
# hasn't), h5py 3.16.0 to make the file.
# Expected: a Float16Array, or the raw bytes, as the README says of types without a typed array.
# Seen: value, slice and to_array of h5wasm throw "Float16 not supported", so that not even the bytes can be had.
# jsfive, which is pure JavaScript and smaller, reads the numbers.
#
# Output seen:
#   Float16Array: function
#   h5wasm float32 value: 1.5,-2,0.25
#   h5wasm value: Float16 not supported
#   h5wasm slice: Float16 not supported
#   h5wasm to_array: Float16 not supported
#   jsfive value: 1.5,-2,0.25
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0
env/bin/python -c '
import h5py, numpy as np
with h5py.File("rows.h5", "w") as file:
    file["float32"] = np.array([1.5, -2, 0.25], dtype="f4")
    file["float16"] = np.array([1.5, -2, 0.25], dtype="f2")
'
npm install --silent --no-fund --no-audit h5wasm@0.10.3 jsfive@0.4.2 node@26.10.0
cat > look.mjs <<'JS'
import { readFileSync } from "node:fs";
import h5wasm from "h5wasm/node";
import { File } from "jsfive";

await h5wasm.ready;
const seen = [`Float16Array: ${typeof globalThis.Float16Array}`];
const file = new h5wasm.File("rows.h5", "r");
seen.push(`h5wasm float32 value: ${file.get("float32").value}`);
const half = file.get("float16");
const ways = { value: () => half.value, slice: () => half.slice([[0, 2]]), to_array: () => half.to_array() };
for (const [name, read] of Object.entries(ways)) {
  try {
    seen.push(`h5wasm ${name}: ${read()}`);
  } catch (error) {
    seen.push(`h5wasm ${name}: ${error.message}`);
  }
}
file.close();
const bytes = readFileSync("rows.h5");
const whole = new File(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), "rows.h5");
seen.push(`jsfive value: ${whole.get("float16").value}`);
console.log(seen.join("\n"));
const refused = ["value", "slice", "to_array"].map((name) => `h5wasm ${name}: Float16 not supported`);
const expected = ["Float16Array: function", "h5wasm float32 value: 1.5,-2,0.25", ...refused, "jsfive value: 1.5,-2,0.25"];
process.exit(seen.join() === expected.join() ? 0 : 1);
JS
node_modules/node/bin/node look.mjs
