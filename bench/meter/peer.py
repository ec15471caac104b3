"""The Python package `tokenizers` on the same texts as the meter: `peer.py TOKENIZER_JSON FILE …`.

Prints the same lines as task `texts` of the meter: each file by a fresh tokenizer (`cold`), then repeated (`warm_same`).
"""

import pathlib
import sys
import time

import tokenizers

REPEATS = 9


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for byte in ",".join(map(str, ids)).encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def once(tokenizer, text, name):
    start = time.perf_counter()
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids = encoding.ids
    print(name, (time.perf_counter() - start) * 1e3, "ms")
    return ids


print("version", tokenizers.__version__, "-")
for file in sys.argv[2:]:
    path = pathlib.Path(file)
    text = path.read_text(encoding="utf-8")
    start = time.perf_counter()
    tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
    print("load", (time.perf_counter() - start) * 1e3, "ms")
    ids = once(tokenizer, text, f"{path.stem}_cold")
    print("ids", f"{path.stem}_cold", len(ids), f"{fnv1a(ids):x}")
    for _ in range(REPEATS):
        once(tokenizer, text, f"{path.stem}_warm_same")
