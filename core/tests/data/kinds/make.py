#!/usr/bin/env python3
"""Writes random odd tokenizer.json files of every kind, and what the Python package tokenizers makes of strings with them.

    python3 -m venv /tmp/kinds && /tmp/kinds/bin/pip install tokenizers==0.23.3
    /tmp/kinds/bin/python core/tests/data/kinds/make.py SEED FILES OUT.jsonl.gz [STRINGS [stages]]

A line is {"file": the file's text, "rows": [[string, ids, ids with special tokens if they are others], ...]}, or has an
"error" instead of rows where Python refuses the file; an error instead of ids is Python's as well. A file can make a trainer
take all memory there is: set `ulimit -v`. cases.jsonl.gz has those of seeds 100 to 119 and 200 to 250, 25 files each, that
found a fault once, some others, and 24 of `stages` with seeds 921 to 928. core/tests/tokenizer_kinds.rs compares our runtime and the crate tokenizers with them.
"""
import json, random, sys, os, gzip
from tokenizers import Tokenizer
from tokenizers import trainers, models
seed, count, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
nstr = int(sys.argv[4]) if len(sys.argv) > 4 else 320
# Only files whose pre-tokenizer has stages that no scanner is written for.
STAGES = "stages" in sys.argv[5:]
rng = random.Random(seed)
R = rng.random
def ch(p): return R() < p
WORDS = "the quick brown fox's don't I'LL we've Hello hello WORLD fooBar HTTPServer x a of and int return self naïve café über straße ΣΑΣ ὈΔΥΣΣΕΎΣ İstanbul ſ 你好 世界 日本語 テスト 한국어 हिन्दी ไทย עברית العربية 12 345 6789 ١٢٣ Ⅷ ½ ² ﬁ ﬂ １２ Ａ ㍿ ℃ Å Å é é ệ ḍ̇ 👍 👨‍👩‍👧 🇩🇪 _under_score [CLS] <s> </s> <unk> ▁ ▁▁ ▁a a▁b Ġ Ġa Ċ".split()
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u2003", "\u3000", "\x0b", "\x0c", "\x85", "\u2028", "\u200b", " \n", "\n ", "\ufeff"]
PUNCT = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "''", "--", "//", "—", "“", "”", "。", "、", "¿", "€", "£", "™", "´", "｀", "・", "؟", "۔", "§", "¶"]
ODD = ["\u0000", "\u0001", "\u007f", "\u00ad", "\u0301", "\u0300\u0301", "\u200d", "\u202e", "\ufffd", "\U0001f600", "\ue000", "\U000e0041", "\u1100\u1161\u11a8", "\uac00", "\u0e33", "\u1e9e", "\u0149", "\u01f0", "\u0345", "\ufb03", "\u2126", "\u212b", "\u212a", "\u017f", "\u0130", "\u0131", "\u03c2", "\u0378", "\U0002ebf0", "\U00010d4e", "\U0001e4ec","\u3099", "\u309b", "\u30fb", "\u2581", "\u2581\u2581","\u05d0\u05b8", "\u0e40\u0e01", "\u00b7", "\u1680", "\u180e", "\u2060", "\u2424","\u3164", "\uff9e"]
CORPUS = []
crng = random.Random(7)
for _ in range(300):
    CORPUS.append("".join(crng.choice(WORDS) + crng.choice(SPACES + [" "] * 20) + (crng.choice(PUNCT) if crng.random() < .2 else "") for _ in range(12)))

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CL.replace("{1,3}", "")
CLPOSS = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
O200 = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = O200.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
Q35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DS3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PHI4 = O200
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
FALCON3 = "[0-9][0-9][0-9]"
MAIN = [GPT2, CL, QWEN, CLPOSS, O200, TEKKEN, Q35, DS3, KIMI, BLOOM]
REGEX = MAIN + [r"\s+", r"\d", r"\d+", r"\p{N}", r"\p{N}{1,3}", CJK, FALCON3, r"\n", r"\w+|[^\w\s]+", r"[^\s]+", r"\p{P}", r"\s", "x", "[a-z]+", r"\p{Han}", r"(?<=a)b|\s+", r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", r"\p{L}+", "[!-/]", "\\d{1,3}(?=(?:\\d{3})*\\b)", r"(?:\r?\n)+(?!\r?\n)"]
# Main expressions as other models have them, and near misses of all.
MAIN2 = [
    r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?=\S)|\s+",
    r"\p{L}+|\p{N}{1,3}|[^\p{L}\p{N}]",
    r" ?\p{L}+| ?\p{N}{1,4}| ?[^\s\p{L}\p{N}]+|\s+",
    r"[\p{Han}]+|\p{L}+|\d| ?[\p{P}\p{S}]+|\s{2,}(?! )|\s",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?\p{Lu}+\p{Ll}*|.|\n",
    r"a+b|a|[a-z]{2,5}?x|[^a]",
    r"\p{M}|\p{L}\p{M}*|\s+(?!\p{L})|[\s\S]",
    r"(?:ab|a|b)+c| +(?![a-z])| ",
]
DEEPSEEK_CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+"]
DEEPSEEK_LLM = [r"[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥\u0800-一가-\ud7ff]+"]
def pick(*a): return rng.choice(a)
def flag(): return ch(.5)
def split(patt=None, beh=None, inv=None):
    if patt is None:
        patt = {"Regex": rng.choice(REGEX)} if ch(.75) else {"String": pick(" ", "a", "ab", "▁", "\n", "  ", "'", "e", "é")}
    return {"type": "Split", "pattern": patt, "behavior": beh or pick("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous", "Isolated"), "invert": ch(.25) if inv is None else inv}
def bl(pfx=None, rx=None):
    d = {"type": "ByteLevel", "add_prefix_space": ch(.3) if pfx is None else pfx, "trim_offsets": flag(), "use_regex": ch(.6) if rx is None else rx}
    return d
def meta():
    s = pick("always", "always", "first", "never")
    d = {"type": "Metaspace", "replacement": "▁" if ch(.95) else pick("_", "x"), "prepend_scheme": s, "split": flag()}
    if ch(.2): d.pop("split")
    return d
def any_pre():
    k = rng.randrange(12)
    return [lambda: bl(), meta, split, split, lambda: {"type": "Digits", "individual_digits": flag()},
      lambda: {"type": "Punctuation", "behavior": pick("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")},
      lambda: {"type": "Whitespace"}, lambda: {"type": "WhitespaceSplit"}, lambda: {"type": "BertPreTokenizer"},
      lambda: {"type": "CharDelimiterSplit", "delimiter": pick(" ", "a", "-", "▁")}, lambda: {"type": "UnicodeScripts"},
      lambda: {"type":"FixedLength","length":rng.randrange(1,5)}][k]()
def seq(*p): return {"type": "Sequence", "pretokenizers": list(p)}
def iso(): return pick({"type": "Digits", "individual_digits": flag()}, split({"Regex": pick(r"\p{N}{1,3}", r"\p{N}", CJK, r"\d", r"\d{1,3}", r"\p{N}+", "[0-9]", "[0-9]{1,2}", "[0-9][0-9][0-9]")}, "Isolated", False), split({"Regex": CJK}, "Isolated", False))
def pre():
    r = R()
    if r < .12: return None
    if r < .24: return bl(rx=True)
    if r < .30: return bl(rx=False)
    if r < .48:
        a = [iso() for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3]))]
        m = [split({"Regex": rng.choice(MAIN)}, pick("Isolated", "Isolated", "Isolated", "Removed"), ch(.3))] if ch(.85) else []
        p = a + m + [bl(pfx=ch(.1), rx=not m or ch(.05))]
        if ch(.1): rng.shuffle(p)
        return seq(*p)
    if STAGES or r < .50:
        isolated = lambda x: split({"Regex": x}, "Isolated", ch(.1))
        return pick(
            lambda: seq(*[isolated(x) for x in DEEPSEEK_CODER], {"type": "Digits", "individual_digits": flag()}, bl(pfx=False, rx=False)),
            lambda: seq(*[isolated(x) for x in DEEPSEEK_LLM], {"type": "Digits", "individual_digits": True}, bl(pfx=False, rx=False)),
            lambda: seq(isolated(BLOOM), bl(pfx=False, rx=ch(.3))),
            lambda: seq(isolated(KIMI), bl(pfx=False, rx=False)),
            lambda: seq(*[iso() for _ in range(rng.randrange(3))], split({"Regex": rng.choice(MAIN2)}, pick("Isolated", "Removed"), True), bl(pfx=False, rx=False)),
            lambda: seq(*[pick(iso, lambda: split({"Regex": rng.choice(MAIN2 + MAIN + DEEPSEEK_CODER)}, "Isolated", flag()), lambda: split({"String": pick(" ", "a", "the", "\n", "é")}, "Isolated", flag()), lambda: {"type": "Punctuation", "behavior": pick("Isolated", "Contiguous")})() for _ in range(rng.randrange(1, 5))], bl(pfx=False)),
            lambda: seq({"type": "Punctuation", "behavior": "Contiguous"}, bl(pfx=False), {"type": "Digits", "individual_digits": flag()}, split({"Regex": "[0-9][0-9][0-9]"}, "Isolated", False)),
            lambda: seq(bl(pfx=False), *[pick(iso, lambda: split({"Regex": rng.choice(MAIN2 + ["[Ġ]", "Ċ+", r"\p{L}{3}"])}, "Isolated", False), lambda: {"type": "Punctuation", "behavior": "Isolated"})() for _ in range(rng.randrange(1, 3))]),
        )()
    if r < .54: return seq({"type": "Punctuation", "behavior": pick("Contiguous", "Isolated")}, bl(pfx=ch(.15), rx=ch(.7)), *([{"type": "Digits", "individual_digits": flag()}] if ch(.7) else []), *([split({"Regex": "[0-9][0-9][0-9]"}, "Isolated", False)] if ch(.5) else []))
    if r < .66: return meta()
    if r < .70: return split({"String": " "}, "MergedWithPrevious", False)
    if r < .73: return seq(*[iso() for _ in range(rng.randrange(1, 3))], bl(rx=True, pfx=ch(.2)))
    if r < .76: return seq({"type": "WhitespaceSplit"}, meta())
    if r < .80: return seq(split({"Regex": pick(BLOOM, "\\n", " ")}), bl(rx=False))
    if r < .90: return any_pre()
    return seq(*[any_pre() for _ in range(rng.randrange(0, 4))])
def any_norm():
    return pick(lambda: {"type": pick("NFC", "NFD", "NFKC", "NFKD")}, lambda: {"type": "Lowercase"},
      lambda: {"type": "Replace", "pattern": {"String": pick(" ", "a", "``", "▁", "\n", "é", "  ")}, "content": pick("▁", "", "b", " ", "aa", '"', "é")},
      lambda: {"type": "Replace", "pattern": {"Regex": pick(" {2,}", r"\s+", "[a-c]", r"\n", "\\s", r"^\s+|\s+$", r"(?<!\n)^", "(?<!\\n) ")}, "content": pick("▁", "", " ", "b")},
      lambda: {"type": "Prepend", "prepend": pick("▁", " ", "a", "é", "_")},
      lambda: {"type": "Strip", "strip_left": flag(), "strip_right": flag()}, lambda: {"type": "StripAccents"}, lambda: {"type": "Nmt"},
      lambda: {"type": "BertNormalizer", "clean_text": flag(), "handle_chinese_chars": flag(), "strip_accents": pick(None, True, False), "lowercase": flag()},
      lambda: {"type": "ByteLevel"})()
REPL = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREP = {"type": "Prepend", "prepend": "▁"}
def nseq(*p): return {"type": "Sequence", "normalizers": list(p)}
def norm():
    r = R()
    if r < .35: return None
    if r < .5: return {"type": pick("NFC", "NFD", "NFKC", "NFKD")}
    if r < .6: return nseq(PREP, REPL)
    if r < .66: return REPL
    if r < .7: return nseq(*( [{"type": pick("NFC", "NFKC", "NFD")}] if ch(.6) else []), *([{"type":"Lowercase"}] if ch(.3) else []), *rng.choice([[PREP, REPL], [REPL], [REPL, PREP], []]))
    if r < .73: return {"type": "Lowercase"}
    if r < .85: return any_norm()
    return nseq(*[any_norm() for _ in range(rng.randrange(0, 4))])
ADDED = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "<a>", "<ab>", "<a", "ab", "a", "the", "quick", " quick", "  ", "    ", "   ", "\n", "\n\n", "\t", " ", "é", "É", "e\u0301", "Hello", "hello", "HELLO", "你好", "▁", "▁a", "▁▁", "[CLS]", "[MASK]", "fox brown", "12", "_", "'s", "...", "ﬁ", "Ⅷ", "🙂", "👍", "x x", "a▁b", "x ", " x", "\u2028", "I", "İ", "<|a b|>", "Å", "ss", "ß", "Ġ", "Ċ"]
def added(vocab):
    n = rng.choice([0, 1, 2, 3, 4, 5, 8, 12])
    pool = rng.sample(ADDED, n)
    if ch(.2) and vocab: pool += rng.sample(sorted(vocab), min(2, len(vocab)))
    if ch(.1) and pool: pool.append(rng.choice(pool))
    if ch(.03): pool.append("")
    o = []
    base = len(vocab)
    plain = ch(.5)
    allnorm = R()
    for i, c in enumerate(pool):
        if ch(.1): base += rng.randrange(0, 9)
        f = (lambda p: ch(p)) if not plain else (lambda p: False)
        spec = flag()
        o.append({"id": vocab.get(c, base), "content": c, "single_word": f(.2), "lstrip": f(.3), "rstrip": f(.3), "normalized": ch(.5) if allnorm < .4 else (not spec if allnorm < .6 else False), "special": spec})
        if c not in vocab: base += 1
    return o
def post(tokens, vocab):
    r = R()
    if r < .3: return None
    if r < .4: return {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag(), "use_regex": flag()}
    idof = lambda t: vocab.get(t, next((x["id"] for x in tokens if x["content"] == t), 0))
    some = [t["content"] for t in tokens if t["content"]] + list(vocab)[:2] or ["a"]
    a, b = rng.choice(some), rng.choice(some)
    if r < .5: return {"type": "BertProcessing", "sep": [a, idof(a)], "cls": [b, idof(b)]}
    if r < .6: return {"type": "RobertaProcessing", "sep": [a, idof(a)], "cls": [b, idof(b)], "trim_offsets": flag(), "add_prefix_space": flag()}
    def templ():
        st = {}
        pieces = []
        seqp = {"Sequence": {"id": "A", "type_id": 0}}
        def sp(t):
            st[t] = {"id": t, "ids": [idof(t)] * rng.choice([1, 1, 1, 2]), "tokens": [t]}
            st[t]["tokens"] = [t] * len(st[t]["ids"])
            return {"SpecialToken": {"id": t, "type_id": 0}}
        for _ in range(rng.randrange(0, 3)): pieces.append(sp(rng.choice(some)))
        pieces.append(seqp)
        if ch(.05): pieces.append(seqp)
        for _ in range(rng.randrange(0, 2)): pieces.append(sp(rng.choice(some)))
        if ch(.03): pieces = [p for p in pieces if p is not seqp]
        return {"type": "TemplateProcessing", "single": pieces, "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": st}
    if r < .85: return templ()
    def one():
        return pick(lambda: {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, templ, lambda: {"type": "BertProcessing", "sep": [a, idof(a)], "cls": [b, idof(b)]})()
    return {"type": "Sequence", "processors": [one() for _ in range(rng.randrange(0, 3))]}
import logging
ALPHA = None
from tokenizers.pre_tokenizers import ByteLevel
ALPHA = ByteLevel.alphabet()
def haskind(p, k):
    if not isinstance(p, dict): return False
    return p.get("type") == k or any(haskind(x, k) for x in p.get("pretokenizers", []))
def make():
    n, p = norm(), pre()
    if STAGES and ch(.7): n = None
    kind = "BPE" if STAGES else rng.choices(["BPE", "WordPiece", "Unigram", "WordLevel"], [84, 6, 6, 4])[0]
    empty = {"BPE": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {}, "merges": []},
      "WordPiece": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": pick(100, 5), "vocab": {"[UNK]": 0}},
      "Unigram": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": False}, "WordLevel": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}}[kind]
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": n, "pre_tokenizer": p, "post_processor": None, "decoder": None, "model": empty}
    try: t = Tokenizer.from_str(json.dumps(base))
    except BaseException: return None
    size = rng.choice([150, 300, 600, 900])
    isb = haskind(p, "ByteLevel") or (isinstance(n, dict) and "ByteLevel" in json.dumps(n))
    sp = []
    if kind == "BPE":
        cp = pick("##", "@@") if ch(.04) else None
        ew = pick("</w>") if ch(.04) else None
        kw = {}
        if cp: kw["continuing_subword_prefix"] = cp
        if ew: kw["end_of_word_suffix"] = ew
        fb = ch(.35) if not isb else ch(.08)
        sp = (["<unk>"] if ch(.5) else []) + (["<s>", "</s>"] if ch(.3) else []) + ([f"<0x{i:02X}>" for i in range(256)] if fb and ch(.9) else [])
        if isb and ch(.9):
            alph = ALPHA
            tr = trainers.BpeTrainer(vocab_size=size + 256, special_tokens=sp, initial_alphabet=alph, show_progress=False, min_frequency=1, **kw)
        else:
            tr = trainers.BpeTrainer(vocab_size=size + len(sp), special_tokens=sp, show_progress=False, min_frequency=1, limit_alphabet=rng.choice([30, 80, 400]), **kw)
    elif kind == "WordPiece":
        tr = trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]"], show_progress=False, min_frequency=1)
    elif kind == "Unigram":
        tr = trainers.UnigramTrainer(vocab_size=size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    else:
        tr = trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]"], show_progress=False)
    try:
        t.train_from_iterator(CORPUS, tr)
    except BaseException as e:
        return None
    f = json.loads(t.to_str())
    m = f["model"]
    for k in ("normalizer", "pre_tokenizer"): f[k] = base[k]
    f["added_tokens"] = []
    if kind == "BPE":
        vocab = m["vocab"]
        m["fuse_unk"] = flag(); m["byte_fallback"] = fb; m["ignore_merges"] = ch(.2)
        u = R()
        m["unk_token"] = "<unk>" if "<unk>" in vocab and u < .8 else (pick("a", "<nounk>") if u > .96 else None)
        if ch(.05): m["dropout"] = pick(0.0, 0.1, 1.0)
        if ch(.15): rng.shuffle(m["merges"])
        if ch(.05) and len(m["merges"]) > 3: m["merges"].append(rng.choice(m["merges"]))
        if ch(.05) and m["merges"]: m["merges"] = m["merges"][:len(m["merges"]) // 2]
        if ch(.1):
            # ids with gaps
            g = rng.randrange(1, 50); at = rng.randrange(len(vocab))
            for k in vocab:
                if vocab[k] >= at: vocab[k] += g
        if ch(.08):
            ks = list(vocab); ids = list(vocab.values()); rng.shuffle(ids); m["vocab"] = dict(zip(ks, ids)); vocab = m["vocab"]
        if ch(.15):
            for x in ["Hello▁world", "▁the▁", "ab c", "a▁", "Ġa Ġb", "你好世", "  ", " a"]:
                if x not in vocab: vocab[x] = max(vocab.values()) + 1
        if ch(.1) and not isb:
            # extra merges that span spaces
            for (x, y) in [("a", "▁"), ("▁", "▁"), ("▁▁", "▁▁"), ("e", " "), (" ", " ")]:
                if x in vocab and y in vocab:
                    if x + y not in vocab: vocab[x + y] = max(vocab.values()) + 1
                    m["merges"].insert(rng.randrange(len(m["merges"]) + 1), [x, y])
        if ch(.2): m["merges"] = [f"{a} {b}" for a, b in m["merges"]]
    elif kind == "Unigram":
        vocab = {w: i for i, (w, s) in enumerate(m["vocab"])}
        m["byte_fallback"] = False
    else: vocab = m["vocab"]
    tk = added(vocab)
    f["added_tokens"] = tk
    f["post_processor"] = post(tk, vocab)
    f["decoder"] = None
    if ch(.1): f["truncation"] = {"direction": pick("Left", "Right"), "max_length": rng.randrange(3, 20), "strategy": "LongestFirst", "stride": 0}
    if ch(.1): f["padding"] = {"strategy": pick("BatchLongest", {"Fixed": 12}), "direction": pick("Left", "Right"), "pad_to_multiple_of": pick(None, 8), "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    return f
def strings(f):
    v = f["model"]["vocab"]
    voc = [x[0] for x in v] if isinstance(v, list) else list(v)
    voc = [x.replace("Ġ", " ").replace("Ċ", "\n") if ch(.7) else x for x in voc]
    add = [t["content"] for t in f["added_tokens"]] or ["<x>"]
    out = ["", " ", "  ", "\n", "a", " a", "a ", "  a  "] + add[:6]
    while len(out) < nstr:
        n = rng.choice([1, 2, 3, 5, 8, 14, 30])
        if ch(.01): n = 600
        focus = R()
        s = ""
        for _ in range(n):
            r = R()
            if focus < .25 and r < .5: s += rng.choice(add)
            elif focus < .25 and r < .75: s += rng.choice(SPACES)
            elif focus < .35 and r < .6: s += rng.choice(SPACES)
            elif focus < .45 and r < .6: s += rng.choice(ODD)
            elif r < .35: s += rng.choice(WORDS)
            elif r < .6: s += rng.choice(SPACES)
            elif r < .72: s += rng.choice(PUNCT)
            elif r < .8: s += rng.choice(voc)
            elif r < .86: s += rng.choice(add)
            elif r < .9: s += rng.choice("0123456789") * rng.choice([1, 1, 2, 3, 4, 7])
            elif r < .94: s += rng.choice(ODD)
            elif r < .97: s += chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x2000), rng.randrange(0x2000, 0xd800), rng.randrange(0x10000, 0x30000)]))
            else: s += rng.choice("aAeEsS'xX ") * rng.randrange(1, 8)
        out.append(s)
    return out
with gzip.open(out, "wt", encoding="utf-8") as o:
    done = 0
    while done < count:
        f = make()
        if f is None: continue
        done += 1
        text = json.dumps(f, ensure_ascii=False)
        row = {"file": text}
        try:
            t = Tokenizer.from_str(text)
            t.no_truncation(); t.no_padding()
        except BaseException as e:
            row["error"] = str(e)[:300]
            o.write(json.dumps(row) + "\n"); continue
        rows = []
        for s in strings(f):
            try: s.encode()
            except UnicodeEncodeError: continue
            r = [s]
            for sp in (False, True):
                try: r.append(t.encode(s, add_special_tokens=sp).ids)
                except BaseException as e: r.append(str(e)[:120] or "error")
            if r[1] == r[2]: r.pop()
            rows.append(r)
        row["rows"] = rows
        o.write(json.dumps(row) + "\n")
