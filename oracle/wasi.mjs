// Runs a WASI program: `node wasi.mjs MODULE ARGUMENTS`. Arguments with a slash whose folder exists are taken for paths, and
// made absolute: the program has no working directory.
import { existsSync, realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { WASI } from "node:wasi";

const [, , path, ...args] = process.argv;
// The program sees the file system's root; WASI follows neither `..` nor links that lead anywhere else.
const real = (path) => (existsSync(path) ? realpathSync(path) : join(real(dirname(path)), basename(path)));
const absolute = (arg) => (arg.includes("/") && existsSync(dirname(arg)) ? real(resolve(arg)) : arg);
// Only this one: to the program's C library, a second one named "." would be the same.
const preopens = { "/": "/" };
const wasi = new WASI({ version: "preview1", args: [path, ...args.map(absolute)], env: process.env, preopens });
const module = await WebAssembly.compile(await readFile(path));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
