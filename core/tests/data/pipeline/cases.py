"""Writes cases.json: what vLLM's own tokenizer object makes of small files of many kinds.

Run with the Python of a vLLM 0.32 environment (transformers 5.19): python cases.py
"""
import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from vllm.tokenizers import get_tokenizer

HERE = pathlib.Path(__file__).parent
CORPUS = [
    "The cat sat on the mat, and the dog didn't. It's 2024 now: 1234567 x 89!",
    "def add(a, b):\n    return a + b\n\n\n# naïve café über Straße",
    "Привет, мир! 你好,世界。 こんにちは世界 ทดสอบ 🙂🙃",
    "the quick brown fox jumps over the lazy dog, the end of the words and the start",
] * 20


def byte_level(path):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<tool>", lstrip=True, normalized=True)])
    tok.save(str(path))


def sentencepiece(path):
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tok.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=460, special_tokens=special, limit_alphabet=60, show_progress=False)
    )
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.pre_tokenizer = None
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    path.write_text(tok.to_str(pretty=False))
    data = json.loads(path.read_text())
    # The bytes are tokens of the model, not added ones.
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < 3]
    path.write_text(json.dumps(data, ensure_ascii=False))


def added(id, content, **properties):
    base = {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {str(id): base | properties}


QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
SPM = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
# (name, tokenizer, tokenizer_config, config)
CASES = [
    ("no settings", "bytes", None, {"model_type": "glm4_moe"}),
    ("generic class", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", **QWEN}, {"model_type": "llama"}),
    ("qwen2 class, qwen3", "bytes", {"tokenizer_class": "Qwen2Tokenizer", **QWEN}, {"model_type": "qwen3"}),
    ("qwen2 fast class, qwen3_moe", "bytes", {"tokenizer_class": "Qwen2TokenizerFast", **QWEN, "add_prefix_space": True}, {"model_type": "qwen3_moe"}),
    ("no class, qwen3", "bytes", QWEN, {"model_type": "qwen3"}),
    ("generic class, qwen2", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", **QWEN}, {"model_type": "qwen2"}),
    ("llama class, qwen2", "bytes", {"tokenizer_class": "LlamaTokenizerFast", **QWEN}, {"model_type": "qwen2"}),
    ("llama class, qwen3", "bytes", {"tokenizer_class": "LlamaTokenizerFast", **QWEN}, {"model_type": "qwen3"}),
    ("qwen3_5", "bytes", {"tokenizer_class": "Qwen2Tokenizer", **QWEN}, {"model_type": "qwen3_5"}),
    ("qwen3_5 of its own", "bytes", {"tokenizer_class": "Qwen3_5Tokenizer", **QWEN}, {"model_type": "something_new"}),
    ("gpt2", "bytes", {"tokenizer_class": "GPT2Tokenizer"}, {"model_type": "gpt2"}),
    ("gpt2 with prefix space", "bytes", {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, "pad_token": "<pad>"}, {"model_type": "starcoder2"}),
    ("gpt2 by model type", "bytes", {}, {"model_type": "phi"}),
    ("gpt_neox", "bytes", {"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": True}, {"model_type": "gpt_neox"}),
    ("olmo, generic", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast"}, {"model_type": "olmo"}),
    ("cohere", "bytes", {"tokenizer_class": "CohereTokenizerFast", "bos_token": "<BOS_TOKEN>", "pad_token": None}, {"model_type": "cohere2"}),
    ("cohere with list", "bytes", {"tokenizer_class": "CohereTokenizer", "additional_special_tokens": ["<tool>", "<new>"]}, {"model_type": "cohere"}),
    ("deepseek", "bytes", {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "bos_token": "<|endoftext|>"}, {"model_type": "deepseek_v3"}),
    ("unknown class", "bytes", {"tokenizer_class": "NobodysTokenizer"}, {"model_type": "llama"}),
    ("llama class in config.json", "bytes", {}, {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"}),
    ("decoder replaces", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added(421, "<|im_start|>", rstrip=True) | added(900, "<far>") | added(901, "the", special=False)}, {"model_type": "llama"}),
    ("decoder replaces, qwen2", "bytes", {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added(420, "<|endoftext|>", lstrip=True) | added(424, "<tool>", special=False, normalized=True, rstrip=True)}, {"model_type": "qwen2"}),
    ("model specific tokens", "bytes", {"tokenizer_class": "Qwen2Tokenizer", "image_token": "<img>", "extra_special_tokens": {"video_token": "<video>", "boi": "cat"}}, {"model_type": "qwen2_vl"}),
    ("extra list", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<e1>", "<e1>", "dog"], "additional_special_tokens": ["<never>"]}, {"model_type": "llama"}),
    ("typed token", "bytes", {"tokenizer_class": "GPT2Tokenizer", "bos_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}}, {"model_type": "opt"}),
    ("mistral", "spm", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **SPM}, {"model_type": "mistral"}),
    ("llama", "spm", {"tokenizer_class": "LlamaTokenizer", "legacy": False, **SPM}, {"model_type": "llama"}),
    ("llama legacy", "spm", {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, **SPM}, {"model_type": "llama"}),
    ("llama legacy null", "spm", {"tokenizer_class": "LlamaTokenizerFast", "legacy": None, **SPM}, {"model_type": "llama"}),
    ("llama without prefix", "spm", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, **SPM}, {"model_type": "llama"}),
    ("llama, decoder without unk", "spm", {"tokenizer_class": "LlamaTokenizer", **SPM, "added_tokens_decoder": added(1, "<s>") | added(2, "</s>") | added(700, "<|user|>", special=False)}, {"model_type": "llama"}),
    ("phi3", "spm", {"tokenizer_class": "LlamaTokenizer", **SPM, "added_tokens_decoder": added(0, "<unk>") | added(1, "<s>") | added(2, "</s>", rstrip=True) | added(460, "<|user|>", rstrip=True)}, {"model_type": "phi3"}),
    ("gemma", "spm", {"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}, {"model_type": "gemma2"}),
    ("gemma3", "spm", {"tokenizer_class": "GemmaTokenizerFast", "unk_token": "<unk>", "pad_token": None, "mask_token": None}, {"model_type": "gemma3"}),
    ("generic class, gemma", "spm", {"tokenizer_class": "PreTrainedTokenizerFast", **SPM}, {"model_type": "gemma3_text"}),
    ("internlm2", "spm", {"tokenizer_class": "InternLM2Tokenizer", "auto_map": {"AutoTokenizer": ["a.B", None]}, **SPM}, {"model_type": "internlm2"}),
    ("map", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast"}, {"model_type": "llama"}, {"special_tokens_map.json": {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}, "additional_special_tokens": ["<e1>", "cat"]}}),
    ("map over settings", "bytes", {"tokenizer_class": "Qwen2Tokenizer", **QWEN, "additional_special_tokens": ["<e1>"]}, {"model_type": "qwen2"}, {"special_tokens_map.json": {"eos_token": "<|endoftext|>", "additional_special_tokens": ["cat"], "image_token": "<img>"}}),
    ("map with extra list", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<e1>"]}, {"model_type": "llama"}, {"special_tokens_map.json": {"extra_special_tokens": ["<e1>", "dog"]}}),
    ("map beside a decoder", "bytes", {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added(421, "<|im_start|>")}, {"model_type": "llama"}, {"special_tokens_map.json": {"bos_token": "<never>"}, "added_tokens.json": {"<never>": 424}}),
    ("added tokens", "bytes", {"tokenizer_class": "Qwen2Tokenizer", **QWEN, "pad_token": "<new>"}, {"model_type": "qwen2"}, {"added_tokens.json": {"<new>": 425, "<img>": 426, "<tool>": 424}}),
    ("llama, map and added tokens", "spm", {"tokenizer_class": "LlamaTokenizer", **SPM}, {"model_type": "llama"}, {"special_tokens_map.json": {"pad_token": {"content": "<pad>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}}, "added_tokens.json": {"<pad>": 460, "<|user|>": 461}}),
    ("bloom", "bytes", {"tokenizer_class": "BloomTokenizerFast", **QWEN}, {"model_type": "bloom"}),
]
TEXTS = [
    "", " ", "  ", "a", " the cat", "the  cat sat  on\n\n the mat ", "It's naïve: cafe\u0301 über", "1234567 x 89!",
    "<s>the</s> <unk> cat", "<|im_start|>user\nhi <|im_end|> <|endoftext|>  x", "<tool> <think>  <tool>the", "<|user|> the dog <far>",
    "你好,世界。ทดสอบ 🙂", "\tdef f(a):\r\n\treturn 'x'", "the▁cat ▁ x", "<img>cat<video> dog<e1>", "<new><BOS_TOKEN><pad> x<never>",
]


def main():
    files = {}
    cases = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for name, write in [("bytes", byte_level), ("spm", sentencepiece)]:
            write(work / "tokenizer.json")
            files[name] = json.loads((work / "tokenizer.json").read_text())
        for number, (name, file, settings, config, *older) in enumerate(CASES):
            place = work / str(number)
            place.mkdir()
            (place / "tokenizer.json").write_text(json.dumps(files[file], ensure_ascii=False))
            (place / "config.json").write_text(json.dumps(config))
            if settings is not None:
                (place / "tokenizer_config.json").write_text(json.dumps(settings, ensure_ascii=False))
            for older_name, value in (older[0] if older else {}).items():
                (place / older_name).write_text(json.dumps(value))
            tokenizer = get_tokenizer(str(place))
            ids = lambda text, special: tokenizer.encode(text, add_special_tokens=special)
            plain = [ids(text, False) for text in TEXTS]
            case = {
                "name": name, "tokenizer": file, "tokenizer_config": settings, "config": config,
                "special_tokens": tokenizer.special_tokens_map, "ids": plain, "bos": ids("a", True),
            }
            cases.append(case | {"older": older[0]} if older else case)
    out = {"files": files, "texts": TEXTS, "cases": cases}
    text = json.dumps(out, ensure_ascii=False, separators=(",", ":"))
    # A line per case.
    text = text.replace('{"name"', '\n{"name"')
    (HERE / "cases.json").write_text(text + "\n")


main()
