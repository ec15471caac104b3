// Runs a WASI program: `node wasi.mjs MODULE ARGUMENTS`. Relative paths among the arguments are the shell's.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { WASI } from "node:wasi";

const [, , path, ...args] = process.argv;
// The program sees the file system's root, and no `..` leads out of a folder that is handed to it.
const absolute = (arg) => (isAbsolute(arg) || !existsSync(join(arg, "..")) || !arg.includes("/") ? arg : join(process.cwd(), arg));
const preopens = { "/": "/", ".": process.cwd() };
const wasi = new WASI({ version: "preview1", args: [path, ...args.map(absolute)], env: process.env, preopens });
const module = await WebAssembly.compile(await readFile(path));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
