#!/usr/bin/env python3
"""Writes tokenizer.json and vectors.json of this folder, with other code than ours.

    python3 -m venv /tmp/vectors && /tmp/vectors/bin/pip install xxhash tokenizers==0.23.2 jinja2
    /tmp/vectors/bin/python core/tests/data/make.py

The hash, the tokenizer and the template engine are the Python packages; the layout of what is hashed is written down
here a second time, from the text of core/src/block.rs.
"""

import json
import pathlib
import random
import struct

import jinja2.sandbox
import tokenizers
import xxhash
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = """
You are a helpful assistant. The user asks a question, and the assistant answers it in a few words.
the quick brown fox jumps over the lazy dog and the lazy dog looks at the quick brown fox
user system assistant tool message content block prompt token cache gateway request
""" * 4


def train():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    # Completions get a BOS from the tokenizer, chats do not: as with many published models.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    return tokenizer


def root(seed, model, lora, salt):
    data = b"warmpath.block.v1" + struct.pack("<Q", seed)
    for tag, text in ((b"m", model), (b"l", lora), (b"s", salt)):
        if text is not None:
            text = text.encode()
            data += tag + struct.pack("<Q", len(text)) + text
    return xxhash.xxh3_64_intdigest(data)


def chain(parent, tokens, block_tokens):
    keys = []
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        block = tokens[start:start + block_tokens]
        parent = xxhash.xxh3_64_intdigest(struct.pack("<Q", parent) + struct.pack(f"<{len(block)}I", *block))
        keys.append(parent)
    return keys


def hexadecimal(key):
    return f"{key:016x}"


def block_vectors():
    rng = random.Random(7)
    spaces = [
        (0, "", None, None), (0, "demo", None, None), (1, "demo", None, None), (2**64 - 1, "demo", None, None),
        (0x0123456789ABCDEF, "meta-llama/Llama-3.1-8B-Instruct", "sql-adapter", None),
        (0x0123456789ABCDEF, "meta-llama/Llama-3.1-8B-Instruct", None, "sql-adapter"),
        (42, "モデル", "", "Zürich"),
    ]
    # Below and above the 240 bytes at which XXH3 changes its algorithm, and a last block that is not full.
    sizes = [(1, 3), (4, 9), (16, 16), (16, 50), (64, 200), (128, 256), (3, 0)]
    for at, (seed, model, lora, salt) in enumerate(spaces):
        block_tokens, count = sizes[at % len(sizes)]
        tokens = [rng.choice([rng.randrange(256), rng.randrange(151_936), rng.randrange(2**32)]) for _ in range(count)]
        top = root(seed, model, lora, salt)
        yield {"seed": hexadecimal(seed), "model": model, "lora": lora, "salt": salt, "block_tokens": block_tokens,
               "tokens": tokens, "root": hexadecimal(top),
               "keys": [hexadecimal(key) for key in chain(top, tokens, block_tokens)]}


def prompt_vectors(tokenizer):
    def raise_exception(message):
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string((HERE / "chat_template.jinja").read_text())
    seed, block_tokens = 0x0123456789ABCDEF, 16
    story = "the quick brown fox jumps over the lazy dog " * 6

    def keyed(name, path, body, tokens, lora=None):
        matchable = (len(tokens) - 1) // block_tokens
        keys = chain(root(seed, "demo", lora, body.get("cache_salt")), tokens, block_tokens)[:matchable]
        return {"name": name, "path": path, "body": body, "tokens": tokens,
                "keys": [hexadecimal(key) for key in keys]}

    def text(name, prompt, **more):
        ids = tokenizer.encode(prompt, add_special_tokens=more.get("add_special_tokens", True)).ids
        return keyed(name, "/v1/completions", {"model": "demo", "prompt": prompt, **more}, ids)

    def chat(name, messages, lora=None, shaped=None, **more):
        generate = more.get("add_generation_prompt", True)
        rendered = template.render(messages=shaped or messages, tools=None, documents=None,
                                   add_generation_prompt=generate)
        ids = tokenizer.encode(rendered, add_special_tokens=False).ids
        body = {"model": lora or "demo", "messages": messages, **more}
        return keyed(name, "/v1/chat/completions", body, ids, lora)

    exact = list(range(3, 3 + 2 * block_tokens))
    turns = [{"role": "system", "content": "  You are a helpful assistant.\n"},
             {"role": "user", "content": story}, {"role": "assistant", "content": "\u001c 日本語 😀 naïve \t"},
             {"role": "user", "content": "a<|im_end|>b\u2028"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": story}, {"type": "text", "text": ""},
                                          {"type": "text", "text": "and again"}]}]
    return [
        text("short text", "the lazy dog"),
        text("long text", story),
        text("long text without special tokens", story, add_special_tokens=False),
        text("text beyond ASCII, with a special token in it", "naïve 日本語 😀👍🏽 <|im_start|> привет\r\n" * 4),
        text("salted text", story, cache_salt="tenant-7"),
        keyed("ids of exactly two blocks: one can match", "/v1/completions",
              {"model": "demo", "prompt": exact}, exact),
        keyed("ids of two blocks and a token", "/v1/completions",
              {"model": "demo", "prompt": [exact + [7], [1]]}, exact + [7]),
        chat("chat", turns),
        chat("chat without generation prompt", turns, add_generation_prompt=False),
        chat("chat with a LoRA adapter", turns, lora="sql-adapter"),
        chat("text parts are joined by newlines, empty ones skipped", parts,
             shaped=[{"role": "user", "content": story + "\nand again"}]),
        chat("names", [{"role": "user", "content": "hello", "name": "Ada"}]),
    ]


def main():
    tokenizer = train()
    vectors = {"blocks": list(block_vectors()), "prompts": prompt_vectors(tokenizer)}
    groups = (f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in vectors.items())
    (HERE / "vectors.json").write_text("{" + ",\n".join(groups) + "}\n")


main()
