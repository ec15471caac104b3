#!/usr/bin/env python3
"""Writes this folder: a small tokenizer of each kind, and strings with their ids by the Python package `tokenizers`.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install --no-deps tokenizers==0.23.3
    /tmp/golden/bin/python core/tests/data/golden/make.py

Laid out as `cargo xtask golden` reads it. The vocabularies are trained on the strings' own material, so that merges of
several steps, words of other scripts and numbers are met in a few hundred entries.
"""

import json
import pathlib
import random
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

HERE = pathlib.Path(__file__).parent
MATERIAL = HERE / "../../../src/tokenizer/strings"
CORPUS = [(MATERIAL / name).read_text(encoding="utf-8") for name in ("prose.txt", "chinese.txt", "code.txt", "data.json")]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
STRINGS = 64
ENTRIES = 700

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + END
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s" \
        r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + END
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" "\r\n" r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["""
            "\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def byte_level(splits, normalizer=None, bos=False, ignore_merges=False):
    """A byte-level tokenizer; no `splits`: GPT-2's own."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    if splits:
        steps = [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=ENTRIES, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        bos_id = tokenizer.token_to_id(SPECIAL[0])
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=SPECIAL[0] + " $A", special_tokens=[(SPECIAL[0], bos_id)])])
    return tokenizer


def sentencepiece(metaspace):
    """A tokenizer in SentencePiece's style with byte fallback, in its two forms."""
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=ENTRIES + 300, special_tokens=special + byte_tokens, show_progress=False, limit_alphabet=200))
    file = json.loads(trained.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(file))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer


KINDS = {
    "gpt2": lambda: byte_level([]),
    "qwen": lambda: byte_level([CL100K % ""], normalizers.NFC()),
    "llama3": lambda: byte_level([CL100K % "{1,3}"], bos=True, ignore_merges=True),
    "o200k": lambda: byte_level([CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?", "{1,3}")]),
    "tekken": lambda: byte_level([CASED % ("", "", "")], bos=True, ignore_merges=True),
    "deepseek": lambda: byte_level(DEEPSEEK),
    "mistral_v1": lambda: sentencepiece(metaspace=False),
    "metaspace": lambda: sentencepiece(metaspace=True),
}


def characters():
    """Assigned characters by general category."""
    by_category = {}
    for code in [*range(0x3000), *range(0x3000, 0x30000, 7)]:
        category = unicodedata.category(chr(code))
        if category != "Cs":
            by_category.setdefault(category, []).append(chr(code))
    return by_category


def strings(special):
    rng, classes = random.Random(20), characters()
    spaces = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", " \n", "\n\n "]
    odd = ["'s", "'S", "'\u017f", "'\u212a", "n't", "’s", "'ll", "'LL", "'", "''", "e\u0301", "\u212b", "\u0958", "\u1100\u1161\u11a8",
           "ﬁ", "①", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "1234567", "3.14", "٣٤", "Ⅷ", "HTTPServer", "camelCase", "ΣΊΣΥΦΟΣ", "▁", "<0x0A>", "\0"]
    for at in range(STRINGS):
        text = ""
        for _ in range(rng.randint(1, 9)):
            kind = rng.randrange(7)
            if kind == 0:
                source = rng.choice(CORPUS)
                start = rng.randrange(len(source))
                text += source[start:start + rng.randint(1, 40)]
            elif kind == 1:
                text += "".join(rng.choices(classes[rng.choice(list(classes))], k=rng.randint(1, 4)))
            elif kind == 2:
                text += rng.choice(spaces) * rng.randint(1, 3)
            elif kind == 3:
                text += rng.choice(special)[:rng.choice([99, 99, 99, 4])]
            elif kind == 4:
                text += rng.choice("ab=. \n'9é中") * rng.randint(2, 40)
            else:
                text += rng.choice(odd) + rng.choice(["", "", " ", "x", "\n"])
        yield at, text


def main():
    for name, make in KINDS.items():
        file = HERE / "tokenizers" / f"{name}.json"
        make().save(str(file), pretty=False)
        tokenizer = Tokenizer.from_file(str(file))
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        rows = []
        for at, text in strings(special):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            with_special = tokenizer.encode(text, add_special_tokens=True).ids
            row = {"id": at, "text": text, "ids": ids}
            if with_special != ids:
                row["ids_sp"] = with_special
            rows.append(json.dumps(row))
        (HERE / "tokens" / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
