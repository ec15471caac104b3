#!/usr/bin/env python3
"""Records in jinja.jsonl what Python's jinja2 makes of its snippets, in the environment that transformers sets up.

    python3 -m venv /tmp/jinja && /tmp/jinja/bin/pip install transformers jinja2==3.1.6
    /tmp/jinja/bin/python core/tests/data/jinja.py

The first line of the file holds the variables of all snippets. Every other line has a `source`, and the `text` that it
renders to or the `error` that it raises, which are written anew. A new snippet is a new line with a `source`.
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

FILE = pathlib.Path(__file__).with_name("jinja.jsonl")


class Clock(datetime.datetime):
    """The time of every rendering."""

    @classmethod
    def now(cls, tz=None):
        return cls(2025, 7, 4, 13, 5, 9)


def record(source, variables):
    try:
        # The environment of transformers; compiled by the function that apply_chat_template calls.
        template = chat_template_utils._compile_jinja_template(source)
        text = template.render(messages=[{"role": "user", "content": "hi"}], tools=None, documents=None,
                               add_generation_prompt=True, bos_token="<s>", **variables)
    except Exception as error:
        return {"source": source, "error": str(error)}
    if " object at 0x" in text:
        raise SystemExit(f"{source!r} prints an address, which is another one each time")
    return {"source": source, "text": text}


def main():
    chat_template_utils.datetime = Clock
    head, *lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    records = [record(line["source"], head["variables"]) for line in lines]
    FILE.write_text("".join(json.dumps(line, ensure_ascii=True) + "\n" for line in [head, *records]), encoding="utf-8")
    print(f"{len(records)} snippets")


if __name__ == "__main__":
    main()
