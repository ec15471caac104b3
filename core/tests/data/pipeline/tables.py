import inspect
import transformers
from transformers.models.auto import tokenization_auto as ta
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
m=ta.TOKENIZER_MAPPING_NAMES
names=set(v for v in m.values() if v)
for n in dir(transformers):
    if 'Token' in n or n.endswith('Backend'): names.add(n)
known=set()
for n in names:
    try: c=ta.tokenizer_class_from_name(n)
    except Exception: known.add(n); continue
    if inspect.isclass(c) and issubclass(c,PreTrainedTokenizerBase): known.add(n)
    elif c is not None and 'Tokenizer' in n and not n.startswith(('Auto','Higgs','Vibe')) : known.add(n)
drop={'TokenizersBackend','PythonBackend','PreTrainedTokenizerFast','PreTrainedTokenizer','PreTrainedTokenizerBase','BasicTokenizer','CharacterTokenizer','MecabTokenizer','WordpieceTokenizer','AutoTokenizer'}
out=["# What transformers 5.19 and vLLM 0.32 do about tokenizer classes; written by core/tests/data/pipeline/tables.py.",
"# `model TYPE CLASS`: the class registered for a model type; `wrong TYPE`: types whose tokenizer_config.json is not believed;",
"# `plain TYPE`: types for which vLLM takes tokenizer.json as it is; `class NAME`: classes that transformers knows."]
for k in sorted(m):
    if m[k]: out.append(f"model {k} {m[k]}")
for k in sorted(ta.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS): out.append(f"wrong {k}")
from vllm.tokenizers.registry import _MODEL_TYPES_WITH_INCORRECT_TOKENIZER_CLASS as plain
for k in sorted(plain): out.append(f"plain {k}")
# spare names that a model line has already, and Fast aliases
for k in sorted(known-drop):
    if k.endswith('Fast') and k[:-4] in known: continue
    if k in m.values(): continue
    out.append(f"class {k}")
print("\n".join(out))
