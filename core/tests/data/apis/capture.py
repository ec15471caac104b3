#!/usr/bin/env python3
"""Sends every body of this folder's *.jsonl to a real vLLM and writes down what it answered.

    PYTHON core/tests/data/apis/capture.py [ROW-ID ...]     (PYTHON: an environment with vLLM, `cargo xtask test --vllm` makes one in target/vllm)

Each row is {"id", "body", TEMPLATE: {"status", "token_ids" | "error"}}, one TEMPLATE entry for each *.jinja file here;
the file's name says which endpoint. To add a case, append {"id", "body"} and run this: rows named on the command line,
or rows that have no answer yet, are asked again, and all rows if there are neither.

The ids are those that reach the engine (`AsyncLLM.generate`), so no endpoint has to report them. One server at a time,
with noise for weights, on loopback; it ends with this script.
"""

import json
import os
import pathlib
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ENDPOINTS = {"messages": "/v1/messages", "responses": "/v1/responses", "generate": "/inference/v1/generate"}
# Set in the server process: the file that prompts are written to.
LOG = "WARMPATH_CAPTURE_LOG"
START_SECONDS = 300
ANSWER_SECONDS = 60
SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}


def serve():
    """The API server, with every prompt for the engine written to the log."""
    from vllm.v1.engine.async_llm import AsyncLLM

    generate = AsyncLLM.generate

    def logged(self, prompt, *args, **kwargs):
        with open(os.environ[LOG], "a") as log:
            log.write(json.dumps(list(prompt["prompt_token_ids"])) + "\n")
        return generate(self, prompt, *args, **kwargs)

    AsyncLLM.generate = logged
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


def write_model(directory, template):
    """A model directory: the small tokenizer of this crate's tests, one template, and the demo's tiny model."""
    config = json.loads((HERE / "../../../../demo/assets/config.json").read_text())
    config.update(vocab_size=512, bos_token_id=0, eos_token_id=2, max_position_embeddings=2048)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_bytes((HERE / "../tokenizer.json").read_bytes())
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL}))
    (directory / "chat_template.jinja").write_bytes(template.read_bytes())


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(port, endpoint, body, log):
    """One answer. A 200 without exactly one prompt for the engine is an error of this script."""
    log.write_text("")
    status, answer = post(f"http://127.0.0.1:{port}{endpoint}", body)
    prompts = [json.loads(line) for line in log.read_text().splitlines()]
    if status == 200:
        (token_ids,) = prompts
        usage = answer.get("usage") or {}
        counted = usage.get("input_tokens", usage.get("prompt_tokens", len(token_ids)))
        assert counted == len(token_ids), (body, answer)
        return {"status": 200, "token_ids": token_ids}
    error = answer.get("error", answer)
    message = error.get("message", error) if isinstance(error, dict) else error
    return {"status": status, "error": str(message)[:200]}


def run(template, rows):
    """Starts a server for one template and fills in its entry of each row."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "model").mkdir()
        write_model(scratch / "model", template)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = dict(
            os.environ, VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1",
            HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_HOST_IP="127.0.0.1",
            **{LOG: str(scratch / "prompts")})
        output = open(scratch / "output", "w+")
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--model", str(scratch / "model"), "--served-model-name", "demo",
             "--load-format", "dummy", "--enforce-eager", "--block-size", "32", "--num-gpu-blocks-override", "96",
             "--max-model-len", "2048", "--host", "127.0.0.1", "--port", str(port), "--enable-scale-out",
             "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-config",
             json.dumps({"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"})],
            env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        output.seek(0)
                        sys.exit(f"the server did not start:\n{output.read()[-5000:]}")
                    time.sleep(1)
            for row in rows:
                row[template.stem] = ask(port, ENDPOINTS[row["file"]], row["body"], scratch / "prompts")
                print(template.stem, row["file"], row["id"], str(row[template.stem])[:150], flush=True)
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def main():
    templates = sorted(HERE.glob("*.jinja"))
    rows = [{"file": name, **json.loads(line)}
            for name in ENDPOINTS for line in (HERE / f"{name}.jsonl").read_text().splitlines()]
    wanted = [row for row in rows if row["id"] in sys.argv[1:]]
    wanted = wanted or [row for row in rows if any(template.stem not in row for template in templates)] or rows
    for template in templates:
        run(template, wanted)
    for name in ENDPOINTS:
        of_file = [{key: row[key] for key in row if key != "file"} for row in rows if row["file"] == name]
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_file))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        del sys.argv[1]
        serve()
    else:
        main()
