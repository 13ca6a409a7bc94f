"""The run directory: everything that a person keeps of one training."""

import csv
import dataclasses
import hashlib
import json
import pathlib
import shutil

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.files import PARTIAL_PREFIX, complete_or_absent, write_json, write_text
from neo_keras.mistaken import mistaken
from neo_keras.text.tokenizer import Tokenizer

FORMAT = "neo_keras run 1"
HISTORY_COLUMNS = ("step", "train_seconds", "learning_rate", "train_loss", "val_loss")


class RunDirectory:
    """One training: `config.json`, `tokenizer.json`, weights, measurements, exports.

    Args:
        path: of the directory, which need not exist yet.

    Attributes:
        path: `pathlib.Path`.
        model_config: `ModelConfig`; this and the next three once created or opened.
        training_config: `TrainingConfig`.
        data: {"sources": list of str, "sha256": of the text}.
        tokenizer: {"kind": as `Tokenizer.kind`, "sha256": of `tokenizer.json`}, or None in a run
            that was made before this was kept.
    """

    keeps_files = True  # whether this process writes what training leaves

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.best = self.path / "best.keras"  # weights to write with: the lowest validation loss
        self.last = self.path / "last.keras"  # weights and optimizer, to resume from
        self.export = self.path / "export"
        self.logs = self.path / "logs"  # for TensorBoard

    @classmethod
    def open(cls, path):
        """Opens an existing run.

        Raises:
            InputError: there is none, or its `config.json` is damaged.
        """
        run = cls(path)
        if not run.exists():
            raise mistaken(path, "a run directory")
        try:
            config = json.loads(run._config_path.read_text(encoding="utf-8"))
            run.model_config = ModelConfig(**config["model"])
            run.training_config = TrainingConfig(**config["training"])
            run.data = {key: config["data"][key] for key in ("sources", "sha256")}
            tokenizer = config.get("tokenizer")
            run.tokenizer = tokenizer and {key: tokenizer[key] for key in ("kind", "sha256")}
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{run._config_path} is damaged ({error}): train again") from None
        return run

    def check_free(self, overwrite=False):
        """Raises `InputError` unless a new run may be made here."""
        if self.exists() and not overwrite:
            raise InputError(
                f"{self.path} already holds a run: continue it with --resume, replace it with "
                "--overwrite, or choose another --run"
            )
        try:
            foreign = self.path.exists() and any(
                not path.name.startswith(PARTIAL_PREFIX) for path in self.path.iterdir()
            )
            if foreign and not self.exists():
                raise InputError(
                    f"{self.path} holds files that are not a run's: choose another --run"
                )
        except OSError as error:
            raise self._unwritable(error) from None

    def create(
        self, model_config, training_config, data, tokenizer, validation_text, overwrite=False
    ):
        """Makes a new run directory.

        Args:
            model_config: `ModelConfig`.
            training_config: `TrainingConfig`.
            data: see the class.
            tokenizer: `Tokenizer`.
            validation_text: str; of pairs, their JSON lines.
            overwrite: replace the run that stands there.

        Raises:
            InputError: the directory holds a run, or something else, or cannot be written.
        """
        self.check_free(overwrite)
        self.model_config, self.training_config, self.data = model_config, training_config, data
        self.tokenizer = {"kind": tokenizer.kind, "sha256": _sha256(tokenizer.to_json().encode())}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._clear()
            self.save_config()
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise self._unwritable(error) from None
        tokenizer.save(self.path / "tokenizer.json")
        write_text(self._validation_path, validation_text)

    def _unwritable(self, error):
        return InputError(
            f"cannot write the run directory {self.path} ({error.strerror}): choose another --run"
        )

    def save_config(self):
        config = {
            "format": FORMAT,
            "model": dataclasses.asdict(self.model_config),
            "training": dataclasses.asdict(self.training_config),
            "data": self.data,
            "tokenizer": self.tokenizer,
        }
        write_json(self._config_path, config)

    def exists(self):
        """Whether the directory holds a run of ours."""
        try:
            return json.loads(self._config_path.read_text(encoding="utf-8"))["format"] == FORMAT
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def load_tokenizer(self):
        """The tokenizer.

        Raises:
            InputError: it is missing or damaged, or not the one that the model was trained with.
        """
        path = self.path / "tokenizer.json"
        tokenizer = Tokenizer.load(path)
        tokenizer.check_vocab_size(self.model_config.vocab_size, self.path)
        if self.tokenizer and _sha256(path.read_bytes()) != self.tokenizer["sha256"]:
            raise InputError(
                f"{path} is not the one that the model was trained with (its SHA-256 is another): "
                "put that one back"
            )
        return tokenizer

    def load_validation_text(self):
        """The text that exports are verified on: the validation text, or its beginning."""
        path = self._validation_path
        try:
            return path.read_bytes().decode()  # read_text would make "\n" of a lone "\r"
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path} ({error}): train again") from None

    @property
    def _validation_path(self):
        is_plain = self.model_config.end_token_id is None
        return self.path / ("validation.txt" if is_plain else "validation.jsonl")

    def load_model(self):
        """The best model so far, computing in float32 whatever it was trained in."""
        from neo_keras.model.encoder_decoder import model_class

        model = model_class(self.model_config)(self.model_config, dtype="float32")
        self.load_weights(model, self.best)
        return model

    def load_weights(self, model, path):
        """Fills `model`, and its optimizer if it has one, from a checkpoint of this run.

        Raises:
            InputError: the checkpoint is missing, damaged or of another model.
        """
        if not path.exists():
            raise InputError(f"{self.path} has no {path.name} yet: train it first, with train.py")
        try:
            model.load_weights(path)
        # What a damaged file raises depends on where the damage is: zip, HDF5 or a weight's shape.
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{path} is damaged or of another model ({reason}): train again with --overwrite"
            ) from None

    def save_best(self, model):
        """Saves the weights alone; Keras opens the file too, once `neo_keras.GPT` is imported."""
        # Keras saves the optimizer with a compiled model, thrice the size: save one that is not.
        uncompiled = type(model).from_config(model.get_config())
        # What only training needs comes last: see `training_model`.
        uncompiled.set_weights(model.get_weights()[: len(uncompiled.weights)])
        with complete_or_absent(self.best) as partial:
            uncompiled.save(partial)

    def save_last(self, model):
        """Saves weights and optimizer, to resume from."""
        with complete_or_absent(self.last) as partial:
            model.save(partial)

    def read_history(self):
        """The rows of `history.csv`, as dicts of numbers; `val_loss` is None where not measured.

        Raises:
            InputError: the file is damaged.
        """
        try:
            with open(self._history_path, newline="", encoding="utf-8") as file:
                rows = [
                    {name: float(row[name]) if row[name] else None for name in HISTORY_COLUMNS}
                    for row in csv.DictReader(file)
                ]
            return [{**row, "step": int(row["step"])} for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise InputError(f"{self._history_path} is damaged ({error}): delete it") from None

    def write_history(self, rows):
        with (
            complete_or_absent(self._history_path) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, HISTORY_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    @property
    def _config_path(self):
        return self.path / "config.json"

    @property
    def _history_path(self):
        return self.path / "history.csv"

    def _clear(self):
        names = ("config.json", "tokenizer.json", "history.csv", "metrics.json", "loss.png",
                 "samples.txt", "validation.txt", "validation.jsonl")  # fmt: skip
        partial = self.path.glob(f"{PARTIAL_PREFIX}*")  # what a killed run left
        for path in (self.best, self.last, *(self.path / name for name in names), *partial):
            path.unlink(missing_ok=True)
        for path in (self.logs, self.export):
            if path.exists():
                shutil.rmtree(path)


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
