#!/usr/bin/env python3
"""Train the demo's tokenizer: 4,096 entries of byte-level BPE over the Python standard library's source.

    python3 -m venv target/train && target/train/bin/pip install tokenizers==0.22.1
    target/train/bin/python demo/assets/train.py

The result is for demo, tests and the simulator: small enough for a repository, and built like the
tokenizers of the Qwen family (NFC, their pre-tokenizer pattern, byte-level BPE, ChatML special tokens), so
the same code paths run as with a real model. Committed: made with Python 3.11.7. Another Python has another
standard library and gives another vocabulary; then every file here must be replaced at once.

Licence: tokenizer.json holds statistics (merge ranks) of text under the PSF licence, no text of it. All files in this
directory are part of Warmpath and under its licence, Apache-2.0.
"""

import pathlib
import sysconfig

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ENTRIES = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Words with one leading non-letter, digits one at a time, punctuation, line ends, spaces: the Qwen2/Qwen3 pattern.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus():
    """Texts of the standard library, in a fixed order; its own tests are left out (mostly data)."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "ensurepip", "__pycache__"}
    for path in sorted(root.rglob("*.py")):
        if not skipped.intersection(path.relative_to(root).parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    # After the vocabulary, as in the models this imitates: special tokens have the highest ids.
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    assert tokenizer.get_vocab_size() == ENTRIES, tokenizer.get_vocab_size()
    tokenizer.save(str(pathlib.Path(__file__).with_name("tokenizer.json")), pretty=False)


if __name__ == "__main__":
    main()
