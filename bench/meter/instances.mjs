// Runs the meter as a WASI module, each time in a fresh instance of one compiled module, as Envoy has one instance in each
// VM: `node --no-liftoff --expose-gc instances.mjs MODULE`. A line of stdin is a JSON list of arguments; after the instance's own
// output comes a line `end CODE`.
import { readFile } from "node:fs/promises";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { WASI } from "node:wasi";

const path = process.argv[2];
const module = await WebAssembly.compile(await readFile(path));
for await (const line of createInterface({ input: process.stdin })) {
  const wasi = new WASI({ version: "preview1", args: [path, ...JSON.parse(line)], preopens: { "/": "/" } });
  let code;
  try {
    code = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
  } catch (error) {
    console.error(error);
    code = 70;
  }
  // The memory of the last instance must not be there when the next one asks for its own.
  globalThis.gc();
  writeSync(1, `end ${code}\n`);
}
