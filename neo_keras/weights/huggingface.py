"""A folder of Hugging Face's transformers: config.json, safetensors, tokenizer."""

import pathlib
import stat

import tokenizers

from neo_keras.atomic_files import parse_json, write_json
from neo_keras.errors import InputError, shortened
from neo_keras.text.tokenizer import END_TOKEN, Tokenizer
from neo_keras.text.tokenizer_config import read_beside
from neo_keras.text.tokenizer_models import byte_level
from neo_keras.weights.conversion import has_head, tensors_of
from neo_keras.weights.huggingface_config import architecture_of, read_config, write_config
from neo_keras.weights.layouts import ARCHITECTURES

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_JSON_BYTES = 2**27
# What `tokenizers` reads is one file; older folders of GPT-2 have these two.
VOCABULARY, MERGES = "vocab.json", "merges.txt"


class Safetensors:
    """The tensors of a folder, each read when it is asked for; in one file or in several."""

    def __init__(self, folder, name=WEIGHTS):
        self.folder = folder
        self._places = dict.fromkeys(self._open(name).keys(), name)
        self.names = set(self._places)

    @property
    def paths(self):
        """Of its files, in order."""
        return [self.folder / name for name in sorted(set(self._places.values()))]

    def _open(self, name):
        """A file, anew each time: what was read of it would count as memory while it is open."""
        import ml_dtypes  # noqa: F401  # before NumPy can have bfloat16
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.folder / name, "np")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.folder / name} is damaged ({error}): copy it again") from None

    def shape(self, name):
        return tuple(self._open(self._places[name]).get_slice(name).get_shape())

    def read(self, name):
        array = self._open(self._places[name]).get_tensor(name)
        if array.dtype.kind not in "fV":  # "V": bfloat16, as ml_dtypes has it
            raise InputError(f"{name} has numbers of type {array.dtype}: convert it to bfloat16")
        return array.astype("float32", copy=False)


class ShardedSafetensors(Safetensors):
    """As `Safetensors`, in several files that an index lists."""

    def __init__(self, folder):
        self.folder = folder
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(map(_is_plain_name, places.values())):
            raise InputError(
                f"{folder / INDEX} has no weight_map of names of files beside it: copy it again"
            )
        self._places = places
        for file in sorted(set(places.values())):
            if absent := {n for n, f in places.items() if f == file} - set(self._open(file).keys()):
                raise InputError(
                    f"{folder / file} has no {shortened(min(absent))}, which {INDEX} places there: "
                    "copy all files of the model"
                )
        self.names = set(places)


def _is_plain_name(name):
    return (
        isinstance(name, str) and name.endswith(".safetensors") and pathlib.Path(name).name == name
    )


def read_json(path):
    """A dict; raises `InputError` where a file is missing, or holds something else."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}: copy all files of the model") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): copy it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (it holds no JSON object): copy it again")
    return content


def is_folder(path):
    """Whether a directory is a model of transformers, as far as its names tell."""
    names = [WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"]
    return any((path / name).exists() for name in names) or "model_type" in read_config_json(path)


def read_config_json(path):
    """What `config.json` in a directory holds; {} if it is missing, or none."""
    try:
        return read_json(path / "config.json")
    except InputError:
        return {}


def open_folder(path):
    """(tensors, `Architecture`, `ModelConfig`, `Tokenizer`) of a folder; or `InputError`."""
    config = read_json(path / "config.json")
    architecture = architecture_of(config)
    file = _open_weights(path)
    model_config = read_config(config, has_head(file, architecture, "huggingface"))
    return file, architecture, model_config, _load_tokenizer(path)


def _open_weights(path):
    if (path / INDEX).exists():
        return ShardedSafetensors(path)
    if (path / WEIGHTS).exists():
        return Safetensors(path)
    if list(path.glob("*.bin")):
        raise InputError(
            f"{path} has its weights as .bin, which is a pickle, and can run any code: convert it "
            "with save_pretrained of transformers, which writes safetensors"
        )
    raise InputError(f"{path} has no {WEIGHTS}: copy all files of the model")


def _load_tokenizer(path):
    if (path / "tokenizer.json").exists():
        return Tokenizer.load(path / "tokenizer.json")
    vocabulary, merges = path / VOCABULARY, path / MERGES
    if not vocabulary.exists() or not merges.exists():
        raise InputError(
            f"{path} has no tokenizer.json: copy it, or make one with save_pretrained of "
            "transformers' AutoTokenizer"
        )
    try:
        hf = byte_level(tokenizers.models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the library has no type of its own
        raise InputError(f"{vocabulary} or {merges} is damaged ({error}): copy it again") from None
    if hf.token_to_id(END_TOKEN) is not None:
        hf.add_special_tokens([END_TOKEN])
    return Tokenizer.from_json(hf.to_str(), vocabulary, read_beside(vocabulary))


def save_tensors(path, tensors):
    """Writes `.safetensors` that whoever may read other files may read: the library's are not."""
    from safetensors.numpy import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(mode)


def write_folder(path, name, model, tokenizer):
    """Writes what `from_pretrained` opens: a directory of a `GPT` that `as_target` returned."""
    path.mkdir(exist_ok=True)
    save_tensors(path / WEIGHTS, dict(tensors_of(model, ARCHITECTURES[name], "huggingface")))
    ends = {} if tokenizer.end_token_id is None else {"eos_token_id": tokenizer.end_token_id}
    write_json(path / "config.json", {**write_config(name, model.config), **ends})
    all_ends = {"eos_token_id": tokenizer.end_token_ids} if tokenizer.end_token_ids[1:] else ends
    write_json(path / "generation_config.json", {"do_sample": True, "temperature": 0.8, **all_ends})
    tokenizer.save(path / "tokenizer.json")
    config = path / "tokenizer_config.json"
    said = read_json(config) if config.exists() else {}
    write_json(config, {"tokenizer_class": "PreTrainedTokenizerFast", **said})
