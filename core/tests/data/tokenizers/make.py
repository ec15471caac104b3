#!/usr/bin/env python3
"""Writes small tokenizer files of many families into this folder, with the Python package tokenizers.

    python3 -m venv /tmp/families && /tmp/families/bin/pip install tokenizers==0.23.3
    /tmp/families/bin/python core/tests/data/tokenizers/make.py

Pre-tokenizers, normalizers and flags are those of published models; vocabularies are trained on the few kilobytes of
text that the tests have. core/tests/tokenizer_families.rs compares our runtime with the crate tokenizers on each file.
"""

import json
import pathlib

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
STRINGS = HERE.parents[2] / "src/tokenizer/strings"
CORPUS = [(STRINGS / name).read_text() for name in ("prose.txt", "chinese.txt", "code.txt", "data.json")]
CORPUS += ["It's IT'S we'll We'Ve they'd 'tis HelloWorld fooBar XMLHttp  \n\n\t  x = [1, 22, 333, 4444]; //---==>>>\r\n"] * 4
CORPUS += ["e\u0301a\u0300o\u0302 \u1100\u1161\u11a8 \uac00 \u0915\u094d\u0937 \ufb01 \u2460 ten\u00a0years"] * 4

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WHITE = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*" + WHITE
MARKS = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + WHITE
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(suffix, numbers):
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{suffix}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{suffix}"
            rf"|\p{{N}}{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*" + WHITE)


DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert)


def byte_level(*stages, use_regex=False, prefix=False):
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)
    return pre_tokenizers.Sequence([*stages, last]) if stages else last


def added(content, **flags):
    base = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return {"id": 0, "content": content} | base | flags


def template(before, behind=()):
    special = lambda token: {"SpecialToken": {"id": token, "type_id": 0}}
    sequence = lambda name, number: {"Sequence": {"id": name, "type_id": number}}
    single = [*map(special, before), sequence("A", 0), *map(special, behind)]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [sequence("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}
                               for number, token in enumerate([*before, *behind])}}


def train(name, pre, normal=None, vocab=700, alphabet=None, tokens=(), post=None, **model):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    if normal:
        tokenizer.normalizer = normal
    special = model.pop("special", [])
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet))
    file = json.loads(tokenizer.to_str())
    file["decoder"] = None
    file["post_processor"] = post
    file["model"] |= model
    file["added_tokens"] = [added(token) for token in special] + list(tokens)
    return name, file


def write(name, file):
    (HERE / f"{name}.json").write_text(json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n")


CHAT = [added("<|im_start|>"), added("<|im_end|>"), added("<think>", special=False)]

write(*train("qwen", byte_level(split(CL100K % "")), normalizers.NFC(), tokens=CHAT))
write(*train("llama3", byte_level(split(CL100K % "{1,3}")), ignore_merges=True, special=["<|begin|>"],
             post={"type": "Sequence", "processors": [
                 {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                 template(["<|begin|>"])]}))
write(*train("marks", byte_level(split(MARKS)), normalizers.NFC(), tokens=CHAT))
write(*train("removed", byte_level(split(CL100K % "{1,3}", "removed", True))))
write(*train("o200k", byte_level(split(cased(CONTRACTIONS + "?", "{1,3}"))), tokens=CHAT))
write(*train("tekken", byte_level(split(cased("", ""))), ignore_merges=True))
write(*train("gpt2_prefix", byte_level(use_regex=True, prefix=True), tokens=[
    added("<mask>", lstrip=True), added("<end>", rstrip=True), added("<both>", lstrip=True, rstrip=True),
    added("word", single_word=True), added("Word", single_word=True, lstrip=True), added("  ", special=False)],
    post={"type": "RobertaProcessing", "sep": ["a", 2], "cls": ["b", 0], "trim_offsets": True,
          "add_prefix_space": True}))
write(*train("starcoder", byte_level(pre_tokenizers.Digits(True), use_regex=True), tokens=CHAT))
write(*train("digits", byte_level(pre_tokenizers.Digits(False), use_regex=True), normalizers.NFC()))
write(*train("deepseek", byte_level(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK)), tokens=[
    added("<｜User｜>", normalized=True, special=False), added("<｜tool▁call｜>")]))
write(*train("nfkc", byte_level(use_regex=True), normalizers.NFKC(), tokens=[
    added("ﬁn", normalized=True, special=False), added("①", special=False)]))
write(*train("nfd_lower", byte_level(split(CL100K % "{1,3}")),
             normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()]), tokens=[
    added("Hello World", normalized=True, special=False)]))
write(*train("whole", byte_level(), vocab=500))
# Stages that no scanner is written for: DeepSeek's first models, Kimi's expression, BLOOM, Falcon.
CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+"]
write(*train("deepseek_coder", byte_level(*map(split, CODER), pre_tokenizers.Digits(True)), tokens=CHAT))
LETTERS = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ"
LLM = [r"[\r\n]", rf"\s?[{LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CODER[3]]
write(*train("deepseek_llm", byte_level(*map(split, LLM), pre_tokenizers.Digits(True)), tokens=CHAT))
NO_HAN = [side[:-1] + r"&&[^\p{Han}]]" for side in (UPPER, LOWER)]
KIMI = r"[\p{Han}]+|" + cased(CONTRACTIONS + "?", "{1,3}").replace(UPPER, NO_HAN[0]).replace(LOWER, NO_HAN[1])
write(*train("kimi", byte_level(split(KIMI.replace("[\\r\\n/]", "[\\r\\n]"))), tokens=CHAT))
write(*train("bloom", byte_level(split(r" ?[^(\s|[.,!?…。，、।۔،])]+"))))
write(*train("falcon", pre_tokenizers.Sequence([
    pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
    pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")])))
holes = pre_tokenizers.ByteLevel.alphabet()[:200]
write(*train("holes", byte_level(split(CL100K % "")), alphabet=holes))
name, file = train("holes_unknown", byte_level(split(CL100K % "")), alphabet=holes, special=["<unk>"])
write(name, file | {"model": file["model"] | {"unk_token": "<unk>", "fuse_unk": True}})

# Merges as lines; an id of an added token that the crate does not use; a gap in the ids.
name, file = train("lines", byte_level(split(CL100K % "")))
file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
file["added_tokens"] = [added("<a>") | {"id": 5000}, added("the"), added("<b>") | {"id": 7}]
write(name, file)


def sentence_piece(name, pre, normal, **options):
    """Spaces as U+2581 while training; what is written has the given normalizer and pre-tokenizer."""
    meta = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    name, file = train(name, meta, vocab=1100, alphabet=["▁", "\n", "\t"], special=special)
    for token in (" ▁", "▁" * 2, "▁" * 4):
        if token.strip() == token:
            file["model"]["vocab"][token] = len(file["model"]["vocab"])
    file["model"]["merges"] += [["▁", "▁"], ["▁▁", "▁▁"]]
    for token in options.pop("without", []):
        del file["model"]["vocab"][token]
    file["added_tokens"] = [added(token) for token in special[:3]] + options.pop("tokens", [])
    file["normalizer"], file["pre_tokenizer"] = normal, pre
    file["post_processor"] = template(["<unk>", "<s>"], ["</s>"])
    file["model"] |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True} | options
    write(name, file)


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LEGACY = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
sentence_piece("llama2", None, LEGACY)
sentence_piece("llama2_normalized", None, LEGACY, tokens=[added("<user>", normalized=True)])
sentence_piece("metaspace_first", metaspace("first", False), None)
sentence_piece("metaspace_always", metaspace("always", True), {"type": "NFKC"})
sentence_piece("metaspace_never", metaspace("never", True), None, ignore_merges=True)
sentence_piece("gemma", SPLIT, REPLACE, tokens=[added("\n\n", special=False), added("▁▁", special=False)])
# Gemma 1 and 2: no token for the byte of the tab, which is a token itself; bytes that UTF-8 does not have.
sentence_piece("gemma2", SPLIT, REPLACE, without=["<0x09>", "<0xC0>", "<0xFF>"])
sentence_piece("unknown", None, LEGACY, byte_fallback=False)
sentence_piece("unknown_apart", None, LEGACY, byte_fallback=False, fuse_unk=False)
sentence_piece("dropped", metaspace("first", False), None, byte_fallback=False, unk_token=None)
