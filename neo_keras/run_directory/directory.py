"""The run directory: everything that a person keeps of one training."""

import contextlib
import csv
import dataclasses
import uuid

from neo_keras.atomic_files import atomic_write, parse_json, write_json, write_text
from neo_keras.commands import quoted
from neo_keras.config import ModelConfig, TrainingConfig, from_saved
from neo_keras.errors import FailedError, InputError, mistaken
from neo_keras.run_directory import checkpoint
from neo_keras.run_directory.checkpoint import sha256
from neo_keras.run_directory.layout import FORMAT, Place
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import read_beside


class RunDirectory(Place):
    """One training: `config.json`, `tokenizer.json`, weights, measurements, exports.

    Attributes of one that was created or opened:
        id: str that no other run has, and all files of this one; None in a run of old.
        model_config, training_config: `ModelConfig`, `TrainingConfig`.
        data: {"sources": list of str, "sha256": of the text}.
        tokenizer: {"kind", "sha256"} of `tokenizer.json` and, if there is one, of
            `tokenizer_config.json` behind it; None in a run of old.
        asked: what cannot be told from the rest: {"preset", "vocab_size", "column"}.
        base: {"path", "sha256"} of the weights that its adapters add to, which are no part of the
            run; None where its checkpoints hold all weights.
    """

    keeps_files = True  # whether this process writes what training leaves
    id = base = None

    @classmethod
    def open(cls, path, to_train=False):
        """Opens an existing run, locked if it is to train; `InputError` where that cannot be."""
        run = cls(path)
        if to_train and run.read_config():
            run.lock()
        config = run.read_config()
        if config is None:
            raise mistaken(path, "a run directory")
        try:
            run.id = config.get("id")
            run.model_config = from_saved(ModelConfig, config["model"])
            run.training_config = from_saved(TrainingConfig, config["training"])
            run.data = {key: config["data"][key] for key in ("sources", "sha256")}
            "".join(run.data["sources"])  # or raises
            tokenizer = config.get("tokenizer")
            run.tokenizer = tokenizer and {key: tokenizer[key] for key in ("kind", "sha256")}
            run.asked = dict(config.get("asked", {}))
            if run.training_config.lora:
                run.base = {key: config["base"][key] for key in ("path", "sha256")}
                "".join(run.base.values())  # or raises
            run._validation_sha256 = config.get("validation_sha256")
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{run._config_path} is damaged ({error}): train again") from None
        return run

    def create(
        self, model_config, training_config, data, tokenizer, validation_text, overwrite=False,
        base=None, **asked,
    ):  # fmt: skip
        """Makes a new run directory of these attributes and parts, or `InputError`.

        Args:
            tokenizer: `Tokenizer`.
            validation_text: str; of pairs, their JSON lines.
        """
        self.check_free(overwrite)
        self.id, self.asked, self.base = uuid.uuid4().hex, asked, base
        self.model_config, self.training_config, self.data = model_config, training_config, data
        content = "".join(tokenizer.files().values()).encode()
        self.tokenizer = {"kind": tokenizer.kind, "sha256": sha256(content)}
        self._validation_sha256 = sha256(validation_text.encode())
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock()
            self.check_free(overwrite)  # as it is now that no other can change it
            with self.exporting():
                self._clear()
            tokenizer.save(self.path / "tokenizer.json")
            write_text(self._validation_path, validation_text)
            self.save_config()  # last: now it is a run

    def save_config(self):
        config = {
            "format": FORMAT,
            "id": self.id,
            "model": dataclasses.asdict(self.model_config),
            "training": dataclasses.asdict(self.training_config),
            "data": self.data,
            "tokenizer": self.tokenizer,
            "validation_sha256": self._validation_sha256,
            "asked": self.asked,
        }
        if self.base:
            config["base"] = self.base
        write_json(self._config_path, config)

    def load_tokenizer(self):
        """The `Tokenizer`; raises `InputError` unless it is the one the model was trained with."""
        path = self.path / "tokenizer.json"
        with self._reading():
            tokenizer = Tokenizer.load(path)
            tokenizer.check_vocab_size(self.model_config.vocab_size, self.path)
            content = path.read_bytes() + (read_beside(path) or b"")
            _check_sha256(path, content, self.tokenizer and self.tokenizer["sha256"])
        return tokenizer

    def load_validation_text(self):
        """The validation text, or its beginning; raises `InputError` unless it is that."""
        path = self._validation_path
        with self._reading():
            try:
                text = path.read_bytes().decode()  # read_text would make "\n" of a lone "\r"
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read {path} ({error}): train again") from None
            _check_sha256(path, text.encode(), self._validation_sha256)
        return text

    @property
    def _validation_path(self):
        is_plain = self.model_config.end_token_id is None
        return self.path / ("validation.txt" if is_plain else "validation.jsonl")

    def load_model(self):
        """The best model so far, computing in float32 whatever it was trained in.

        What adapters add is part of its weights.
        """
        from neo_keras.model.encoder_decoder import model_class
        from neo_keras.run_directory.base import load_merged

        if self.base:
            return load_merged(self)
        self._read_record(self.best)  # a damaged configuration might be of a model without end
        model = model_class(self.model_config)(self.model_config, dtype="float32")
        self.load_weights(model, self.best)
        return model

    def load_weights(self, model, path):
        """Fills `model`, and its optimizer if it has one, from a checkpoint; or `InputError`."""
        self._read_record(path, check=True)  # Keras does not look at checksums
        with self._reading():
            checkpoint.load(path, model)
        self._read_record(path)  # it may have been replaced just before it was loaded

    def save_best(self, model, step=None, val_loss=None, drafter_trained=False):
        """Saves a `GPT` or `EncoderDecoder`, what was measured, and if its drafter is done."""
        record = {"step": step, "val_loss": val_loss, "drafter_trained": drafter_trained}
        self._save(self.best, model, record)

    def save_last(self, train_step, rows=()):
        """Saves a `TrainStep`, its optimizer, and the rows of the history so far."""
        self._save(self.last, train_step, {"history": rows, "holds": "TrainStep"})

    def _save(self, path, model, record):
        record = {"model": dataclasses.asdict(self.model_config), "id": self.id, **record}
        checkpoint.save(path, model, record, self._check_own)

    def _check_own(self):
        """Raises `FailedError` if the directory is another run's by now, as no lock can forbid."""
        if self._id_there() != self.id:
            raise FailedError(
                f"{self.path} is not this run's any more: it was removed or replaced, and nothing "
                "is saved"
            )

    def check_resumable(self):
        """Raises `InputError` unless training can go on, or never came to its first checkpoint."""
        if self.last.exists():
            if self._read_record(self.last).get("holds") != "TrainStep":
                raise InputError(
                    f"{self.last} is of an earlier version of neo_keras: resume with that version, "
                    "or begin anew with --overwrite; best.keras still generates and exports"
                )
        elif (
            any(path.exists() for path in (self._metrics_path, self._history_path))
            or (self.read_best() or {"step": 0})["step"] != 0
        ):  # at step 0 it holds the weights that training began from
            raise InputError(
                f"{self.path} has no last.keras: copy it back, or begin anew with --overwrite"
            )
        self.read_best(check=True)
        self.read_metrics()

    def read_best(self, check=False):
        """What `best.keras` says: {"step", "val_loss", "drafter_trained"}; None without one."""
        if not self.best.exists():
            return None
        return {"step": None, "val_loss": None, **self._read_record(self.best, check)}

    def read_history(self):
        """The rows of `last.keras`: list of dict of numbers, `val_loss` None if not measured."""
        return self._read_record(self.last).get("history", []) if self.last.exists() else []

    def write_history(self, rows):
        """Writes `history.csv`, which is for people."""
        with atomic_write(self._history_path) as partial:
            with open(partial, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)

    def read_metrics(self):
        """What `metrics.json` holds; {} if that is damaged; `InputError` if it is another run's."""
        try:
            metrics = dict(parse_json(self._metrics_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}
        with self._reading():
            self._check_id(metrics, self._metrics_path)
        return metrics

    def write_metrics(self, metrics):
        write_json(self._metrics_path, {"id": self.id, **metrics})

    def _read_record(self, path, check=False):
        with self._reading():
            if not path.exists():
                raise InputError(
                    f"{self.path} has no {path.name}: copy it back, or train on, with "
                    f"python train.py --run {quoted(self.path)} --resume"
                )
            try:
                record = checkpoint.read_record(path, self.model_config, check)
            except InputError as error:
                raise InputError(f"{error}{self._what_is_whole(path)}") from None
            self._check_id(record, path)
        return record

    def _what_is_whole(self, damaged):
        """What to do with the other checkpoint, if that can be used."""
        other = self.last if damaged == self.best else self.best
        try:
            self._check_id(checkpoint.read_record(other, self.model_config, check=True), other)
        except InputError:
            return ""
        use = "it still generates and exports"
        if other == self.last:
            use = "remove best.keras, and --resume makes it of that"
        return f"; {other.name} is whole: {use}"

    def _check_id(self, record, path):
        if record.get("id") != self.id:
            raise InputError(
                f"{path} and {self._config_path} are of different runs: put back the files of one"
            )

    def _id_there(self):
        return (self.read_config() or {}).get("id")

    @contextlib.contextmanager
    def _reading(self):
        """Says of a part that cannot be used what is known by now: another run may be there."""
        try:
            yield
        except InputError:
            if self._id_there() == self.id:
                raise
            reason = f"{self.path} was replaced while it was read: run this again"
            raise InputError(reason) from None


class ReadOnlyRun(RunDirectory):
    """The run directory of a worker that is not the chief: nothing is written."""

    keeps_files = False

    def create(self, model_config, training_config, data, *args, base=None, **kwargs):
        self.model_config, self.training_config, self.data = model_config, training_config, data
        self.base = base

    def _do_nothing(self, *args, **kwargs):
        """The chief does it."""

    check_free = lock = save_config = save_best = save_last = _do_nothing
    write_history = write_metrics = _do_nothing


def _check_sha256(path, data, expected):
    """Raises `InputError` unless a file is as the run knows it; a run of old knows nothing."""
    if expected not in (None, sha256(data)):
        raise InputError(
            f"{path} is not the one that the model was trained with (its SHA-256 is another): put "
            "that one back"
        )
